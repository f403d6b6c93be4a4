"""The web application behind `sella demo`: one page, and what it asks for as JSON.

The page shows what the collaborative model, the text-only LLM and SeLLa-Rec recommend, side by side.
"""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Annotated, Any

import polars as pl
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sella_rec.model.bundle import Arm
from sella_rec.model.ranker import Ranker, Ranking, RequestError
from sella_rec.model.ranker import Request as Question

_COLLAB = {"mf": "Matrix factorization", "lightgcn": "LightGCN"}
_SUGGESTIONS = 12
# No script, style or image from elsewhere, and none inline: titles are untrusted text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Other sites must not reach it by a host name of theirs that resolves to this machine (DNS rebinding).
_HOSTS = ["127.0.0.1", "localhost"]


class Asked(BaseModel):
    """The page's request: for a user, or for a new user who liked `history` (titles or item ids)."""

    model_config = ConfigDict(extra="forbid")

    user_id: str | None = Field(None, max_length=200)
    history: list[Annotated[str, Field(max_length=500)]] | None = Field(None, max_length=100)
    top: int = Field(10, ge=1, le=50)


def build_app(ranker: Ranker, name: str, retrieve: int) -> FastAPI:
    """The application.

    Args:
        ranker: answers; one request at a time.
        name: of the model, shown on the page.
        retrieve: how many candidates the collaborative model chooses; all three arms rank these.
    """
    app = FastAPI(title="SeLLa-Rec", docs_url=None, redoc_url=None, openapi_url=None)
    _protect(app)
    _add_page(app)
    _add_catalogue(app, ranker, name, retrieve)
    _add_recommendations(app, ranker, retrieve)
    return app


def _protect(app: FastAPI) -> None:
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)

    @app.middleware("http")
    async def with_policy(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _add_page(app: FastAPI) -> None:
    for path, (file, kind) in {
        "/": ("page.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
    }.items():
        content = files("pipeline.predict.demo").joinpath(file).read_text()
        app.get(path)(lambda content=content, kind=kind: Response(content, media_type=kind))


def _add_catalogue(app: FastAPI, ranker: Ranker, name: str, retrieve: int) -> None:
    @app.get("/model")
    def model() -> dict[str, Any]:
        bundle = ranker.bundle
        many = {"film": "films", "book": "books", "product": "products"}[bundle.config.prompt.wording]
        return {
            "name": name,
            "collab": _COLLAB[bundle.config.collab.fused_model],
            "many": many,
            "users": bundle.users.height,
            "items": bundle.items.height,
            "retrieve": retrieve,
            "first_user": bundle.users["user_id"][0],
        }

    @app.get("/users")
    def users(q: Annotated[str, Query(max_length=200)] = "") -> list[dict[str, Any]]:
        found = ranker.bundle.users.filter(pl.col("user_id").str.starts_with(q.strip())).head(_SUGGESTIONS)
        return found.select("user_id", rated=pl.col("seen").list.len().fill_null(0)).to_dicts()

    @app.get("/users/{user_id:path}")
    def user(user_id: str) -> dict[str, Any]:
        known = ranker.bundle.users.filter(pl.col("user_id") == user_id)
        if known.is_empty():
            raise HTTPException(404, f"user {user_id} is not known to this model")
        return {"user_id": user_id, "history": _titles(ranker, known["history"][0])}

    @app.get("/items")
    def items(q: Annotated[str, Query(max_length=200)] = "") -> list[str]:
        matching = pl.col("title").str.to_lowercase().str.contains(q.strip().lower(), literal=True)
        return ranker.bundle.items.filter(matching)["title"].head(_SUGGESTIONS).to_list()


def _add_recommendations(app: FastAPI, ranker: Ranker, retrieve: int) -> None:
    busy = threading.Lock()

    @app.exception_handler(RequestError)
    async def refuse(_request: Request, error: RequestError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=400)

    @app.post("/recommend")
    def recommend(asked: Asked) -> dict[str, Any]:
        if (asked.user_id is None) == (asked.history is None):
            raise RequestError("give user_id or history, not both")
        if asked.user_id is not None and not ranker.knows(asked.user_id):
            raise RequestError(f"user {asked.user_id} is not known to this model; choose one from the list")
        # one at a time: two would only slow each other down
        with busy:
            return {"arms": _compare(ranker, asked, retrieve)}


def _titles(ranker: Ranker, item_ids: pl.Series | None) -> list[str]:
    wanted = pl.DataFrame({"item_id": [] if item_ids is None else item_ids}, schema={"item_id": pl.String})
    return wanted.join(ranker.bundle.items, on="item_id", maintain_order="left")["title"].to_list()


def _compare(ranker: Ranker, asked: Asked, retrieve: int) -> dict[str, list[dict[str, Any]]]:
    """The best items of each arm; the candidates are those of the collaborative model for all of them."""
    history = None if asked.history is None else tuple(asked.history)
    question = Question(asked.user_id, history)
    (retrieved,) = ranker.rank([question], top_n=retrieve, arm="collab")
    candidates = tuple(item_id for item_id in retrieved.item_ids if item_id is not None)
    if not candidates:
        return {"collab": [], "text_only": [], "sella": []}
    others: tuple[Arm, Arm] = ("text_only", "sella")
    ranked = {arm: ranker.rank([Question(asked.user_id, history, candidates)], arm=arm)[0] for arm in others}
    rated = ranker.bundle.items.filter("in_train")["item_id"].to_list()
    return {arm: _best(ranking, asked.top, rated) for arm, ranking in {"collab": retrieved, **ranked}.items()}


def _best(ranking: Ranking, top: int, rated: list[str]) -> list[dict[str, Any]]:
    columns = {"item_id": ranking.item_ids, "title": ranking.titles, "score": ranking.scores, "rank": ranking.ranks}
    rows = pl.DataFrame(columns).with_columns(new=~pl.col("item_id").is_in(rated))
    return rows.sort("rank").head(top).to_dicts()

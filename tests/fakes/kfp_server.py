"""The part of the Kubeflow Pipelines API that `sella` uses, over HTTP, with its state in memory."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as models

from tests.fakes.api import ApiHandler, RefusedError, refuse_as_told

_wire = models.ApiClient()
_BODIES = {
    "experiments": models.V2beta1Experiment,
    "pipelines": models.V2beta1Pipeline,
    "runs": models.V2beta1Run,
    "recurringruns": models.V2beta1RecurringRun,
}
_IDS = {
    "experiments": "experiment_id",
    "pipelines": "pipeline_id",
    "versions": "pipeline_version_id",
    "runs": "run_id",
    "recurringruns": "recurring_run_id",
}
_LISTS = {
    "experiments": (models.V2beta1ListExperimentsResponse, "experiments"),
    "pipelines": (models.V2beta1ListPipelinesResponse, "pipelines"),
    "versions": (models.V2beta1ListPipelineVersionsResponse, "pipeline_versions"),
    "runs": (models.V2beta1ListRunsResponse, "runs"),
    "recurringruns": (models.V2beta1ListRecurringRunsResponse, "recurring_runs"),
}


@dataclass
class State:
    """What the server holds, and what it was asked.

    Attributes:
        kept: objects by kind and id.
        uploads: bytes of the uploaded versions, by name.
        requests: method and path of each, in order, reads included.
        token: what clients must show, if anything.
        refusals: (method and path, status) to answer instead, once each.
        on_read: called with a run before it is shown; it may change it.
        content_type: of all answers.
        pod_logs: what the UI's server has, by pod.
        page_size: most objects in one list, whatever is asked for.
    """

    kept: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in _IDS})
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    token: str | None = None
    refusals: list[tuple[str, int]] = field(default_factory=list)
    on_read: Callable[[Any], None] = lambda run: None
    content_type: str = "application/json"
    page_size: int = 100
    pod_logs: dict[str, str] = field(default_factory=dict)

    def all(self, kind: str) -> list[Any]:
        return list(self.kept[kind].values())

    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    def keep(self, kind: str, made: Any) -> Any:
        identity = f"{kind}-{sum(map(len, self.kept.values())) + len(self.requests)}"
        setattr(made, _IDS[kind], identity)
        self.kept[kind][identity] = made
        return made


@contextmanager
def serve() -> Iterator[tuple[str, State]]:
    """Address and state of a server that lives as long as the context."""
    state = State()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(ApiHandler):
    state: State
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, said = 200, self._act(body)
        except RefusedError as refused:
            status, said = refused.status, {"error": str(refused), "message": str(refused), "code": 0}
        content = said if isinstance(said, bytes) else json.dumps(_wire.sanitize_for_serialization(said)).encode()
        self.send(status, content, self.state.content_type)

    def _act(self, body: bytes) -> Any:
        url = urlsplit(self.path)
        # before it, a proxy's prefix
        asked = f"{self.command} {url.path.partition('/apis/v2beta1')[2] or url.path}"
        self.state.requests.append(asked)
        refuse_as_told(self.state.refusals, asked)
        if self.state.token and self.headers.get("authorization") != f"Bearer {self.state.token}":
            raise RefusedError(401, "Request header error: there is no user identity header.")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if asked == "GET /healthz":
            return models.V2beta1GetHealthzResponse(multi_user=False)
        if asked == "GET /k8s/pod/logs":
            if query["podname"] not in self.state.pod_logs:
                raise RefusedError(404, "pod not found")
            return self.state.pod_logs[query["podname"]].encode()
        if asked == "POST /pipelines/upload_version":
            return self._upload(query, body)
        match = re.fullmatch(r"(?:/pipelines/(?P<owner>[^/]+))?/(?P<kind>\w+)(?:/(?P<id>[^/]+))?", asked.split()[1])
        if match is None or match["kind"] not in _IDS:
            raise RefusedError(404, f"no such method: {asked}")
        return self._stored(match["kind"], match["id"], query | {"owner": match["owner"]}, body)

    def _stored(self, kind: str, identity: str | None, query: dict[str, Any], body: bytes) -> Any:
        if identity is None:
            return self._list(kind, query) if self.command == "GET" else self._create(kind, body)
        if identity not in self.state.kept[kind]:
            raise RefusedError(404, f"{kind} {identity} not found")
        if self.command == "DELETE":
            del self.state.kept[kind][identity]
            return {}
        found = self.state.kept[kind][identity]
        if kind == "runs":
            self.state.on_read(found)
        return found

    def _create(self, kind: str, body: bytes) -> Any:
        made = _parse(body, _BODIES[kind])
        if kind in ("runs", "recurringruns"):
            reference = made.pipeline_version_reference
            if reference is None or reference.pipeline_version_id not in self.state.kept["versions"]:
                raise RefusedError(400, "no such pipeline version")
            if made.experiment_id not in self.state.kept["experiments"]:
                raise RefusedError(400, "no such experiment")
        return self.state.keep(kind, made)

    def _upload(self, query: dict[str, str], body: bytes) -> Any:
        if query["pipelineid"] not in self.state.kept["pipelines"]:
            raise RefusedError(400, "no such pipeline")
        if query["name"] in self.state.uploads:
            raise RefusedError(409, f"the version {query['name']} already exists")
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + body).get_payload()
        self.state.uploads[query["name"]] = part.get_payload(decode=True)
        version = models.V2beta1PipelineVersion(pipeline_id=query["pipelineid"], display_name=query["name"])
        return self.state.keep("versions", version)

    def _list(self, kind: str, query: dict[str, Any]) -> Any:
        found = [each for each in self.state.all(kind) if _matches(each, query)]
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        first = int(query.get("page_token", 0))
        last = first + min(int(query.get("page_size", 10)), self.state.page_size)
        token = str(last) if last < len(found) else None
        model, name = _LISTS[kind]
        return model(**{name: found[first:last], "total_size": len(found), "next_page_token": token})


def _matches(each: Any, query: dict[str, Any]) -> bool:
    owned = {"experiment_id": query.get("experiment_id"), "pipeline_id": query["owner"]}
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    assert all(predicate["operation"] in ("EQUALS", 1) for predicate in predicates)
    wanted = owned | {predicate["key"]: predicate["stringValue"] for predicate in predicates}
    return all(value is None or getattr(each, key) == value for key, value in wanted.items())


def _parse(body: bytes, model: type) -> Any:
    unknown = set(json.loads(body)) - set(model.attribute_map.values())
    if unknown:
        raise RefusedError(400, f"unknown fields: {sorted(unknown)}")
    return _wire.deserialize(SimpleNamespace(data=body.decode()), model.__name__)

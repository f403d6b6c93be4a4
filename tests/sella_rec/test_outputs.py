"""Outputs that a user names: what is not ours is never replaced, and refusals are sentences."""

from __future__ import annotations

import errno
import os
import resource
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sella_rec.errors import UserError
from sella_rec.outputs import (
    MARKER,
    OutputPathError,
    check_growing_folder,
    output_file,
    output_folder,
    told_refusal,
)
from tests.sella_rec.conftest import ForeignFolder

BEGINS = "user_id,score\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def nothing() -> None:
    """What happens beside the writing."""


def make(path: Path, meanwhile: Callable[[], None] = nothing, **options: object) -> None:
    with output_folder(path, **options) as folder:  # type: ignore[arg-type]
        folder.mkdir()
        (folder / "a.parquet").write_text("new")
        meanwhile()


def write(path: Path, meanwhile: Callable[[], None] = nothing, **options: object) -> None:
    with output_file(path, BEGINS, **options) as file:  # type: ignore[arg-type]
        file.write_text(BEGINS + "7,0.5\n")
        meanwhile()


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def tree(folder: Path) -> dict[str, str | None]:
    """All that lies below, with its content; of a link where it points to."""
    found: dict[str, str | None] = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else None
        found[str(path.relative_to(folder))] = content
    return found


def refused(act: Callable[..., None], path: Path, message: str, **options: object) -> str:
    """The message; nothing has changed, and the fix that it names works."""
    before = tree(Path.cwd())
    with pytest.raises(OutputPathError, match=message) as told:
        act(path, **options)
    assert tree(Path.cwd()) == before
    text = str(told.value)
    if "use --output " in text:
        act(Path(shlex.split(text.rpartition("use --output ")[2])[0]), **options)
    return text


def test_a_new_an_empty_and_our_own_folder_are_written(elsewhere: Path) -> None:
    (elsewhere / "empty").mkdir()
    for name in ("new", "empty", "deep/er"):
        for _ in range(2):
            make(Path(name))
            assert {path.name for path in Path(name).iterdir()} == {MARKER, "a.parquet"}
    assert {path.name for path in elsewhere.iterdir()} == {"new", "empty", "deep"}


@given(names=st.lists(st.sampled_from(["a.txt", "b c", ".hidden", "d/e", "a.parquet", "train.parquet"]), min_size=1))
@settings(max_examples=30, deadline=None)
def test_any_foreign_content_is_kept(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("foreign") / "out"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my {name}")
    before = tree(folder)
    with pytest.raises(OutputPathError, match="did not write"):
        make(folder)
    assert tree(folder.parent) == {"out": None, **{f"out/{name}": text for name, text in before.items()}}


def test_up_to_five_names_are_told(elsewhere: Path) -> None:
    for number in range(1207):
        (elsewhere / "out").mkdir(exist_ok=True)
        (elsewhere / "out" / f"{number:04}.txt").touch()
    text = refused(make, Path("out"), "0000.txt, 0001.txt, 0002.txt, 0003.txt, 0004.txt and 1,202 more. It is kept")
    assert text.endswith("use --output out-2")


@pytest.mark.parametrize("foreign", ["notes.txt", "plots/one.svg"])
def test_what_a_user_puts_into_our_folder_is_kept(elsewhere: Path, foreign: str) -> None:
    make(Path("out"))
    (elsewhere / "out" / foreign).parent.mkdir(exist_ok=True)
    (elsewhere / "out" / foreign).write_text("mine")
    refused(make, Path("out"), foreign.split("/")[0])


@pytest.mark.parametrize("signature", ["", "[]", "{}", '{"files": null}', "\\x00"])
def test_a_signature_that_says_nothing_protects(elsewhere: Path, signature: str) -> None:
    (elsewhere / "out").mkdir()
    (elsewhere / "out" / MARKER).write_text(signature)
    (elsewhere / "out" / "thesis.tex").write_text("mine")
    refused(make, Path("out"), "thesis.tex")


def test_an_older_folder_is_replaced_if_its_content_is_known(elsewhere: Path) -> None:
    for name in ("a.parquet", "report.json"):
        (elsewhere / "out").mkdir(exist_ok=True)
        (elsewhere / "out" / name).write_text("old")
    refused(make, Path("out"), "report.json")
    make(Path("out"), older=lambda _: {"a.parquet", "report.json"})
    assert tree(elsewhere / "out")["a.parquet"] == "new"


def test_what_comes_while_we_work_is_kept(elsewhere: Path) -> None:
    def come() -> None:
        (elsewhere / "out").mkdir()
        (elsewhere / "out" / "late.txt").write_text("mine")

    with pytest.raises(OutputPathError, match=r"late\.txt"):
        make(Path("out"), come)
    with pytest.raises(OutputPathError, match="is kept"):
        write(Path("letter"), lambda: (elsewhere / "letter").write_text("mine") and None)
    assert tree(elsewhere) == {"out": None, "out/late.txt": "mine", "letter": "mine"}


def test_a_link_stays_and_its_target_is_the_output(elsewhere: Path) -> None:
    target = elsewhere / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub" / "mine").write_text("mine")
    Path("link").symlink_to(target)
    refused(make, Path("link"), "sub/")
    make(Path("ours"))
    Path("to-ours").symlink_to("ours")
    make(Path("to-ours"))
    assert Path("to-ours").is_symlink()
    assert Path("dangling").symlink_to("made-now") is None
    make(Path("dangling"))
    assert (elsewhere / "made-now" / "a.parquet").exists()
    (elsewhere / "ours" / "linked").symlink_to(target)
    refused(make, Path("ours"), r"linked \(a link\)")


def test_the_root_the_home_and_the_folder_one_is_in_are_never_replaced(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = elsewhere / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    refused(make, Path("home"), "home folder")
    (elsewhere / "inner").mkdir()
    monkeypatch.chdir(elsewhere / "inner")
    for path in (Path(), Path("..")):
        refused(make, path, "the folder you are in")
    with pytest.raises(OutputPathError, match="is the root or your home folder"):
        make(Path("/"))


def test_a_mounted_volume_is_told_of(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "volume").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "volume")
    refused(make, Path("volume"), "mounted volume")


def test_the_input_is_never_in_the_output_nor_the_output_in_the_input(elsewhere: Path) -> None:
    make(Path("data"))
    inputs = [Path("data/a.parquet")]
    refused(make, Path("data"), "holds data/a.parquet, which the command reads", inputs=inputs)
    refused(make, Path("data/more"), "would be read as input the next time", inputs=[Path("data")])
    make(Path("data-2"), inputs=[Path("not-there")])


def test_files_in_the_way_are_told_of(elsewhere: Path) -> None:
    (elsewhere / "file").write_text("mine")
    refused(make, Path("file"), "is a file, not a folder")
    refused(make, Path("file/out"), "/file is a file, so nothing")
    refused(write, Path("file/scores.csv"), "/file is a file, so nothing")
    (elsewhere / "folder").mkdir()
    refused(write, Path("folder"), "is a folder, not a file")
    refused(check_growing, Path("file"), "is a file, not a folder")


def check_growing(path: Path) -> None:
    check_growing_folder(path, ("request.json",), "--output")


def test_a_growing_folder_is_new_empty_or_ours(elsewhere: Path) -> None:
    check_growing(Path("new"))
    (elsewhere / "out").mkdir()
    check_growing(Path("out"))
    (elsewhere / "out" / "thesis.tex").touch()
    refused(check_growing, Path("out"), r"thesis\.tex")
    (elsewhere / "out" / "request.json").touch()
    check_growing(Path("out"))


@pytest.mark.parametrize("text", ["my letter", "user_id,item_id\n7,1\n", "user_id,score", "\x00\xff"])
def test_a_file_of_another_kind_is_kept(elsewhere: Path, text: str) -> None:
    (elsewhere / "out.csv").write_text(text)
    assert refused(write, Path("out.csv"), "another kind is there, and is kept").endswith("--output out-2.csv")


def test_an_empty_file_and_one_of_ours_are_replaced(elsewhere: Path) -> None:
    (elsewhere / "out.csv").touch()
    for _ in range(2):
        write(Path("out.csv"))
    Path("link.csv").symlink_to("out.csv")
    write(Path("link.csv"))
    assert tree(elsewhere) == {"link.csv": "out.csv", "out.csv": BEGINS + "7,0.5\n"}


def test_an_input_is_not_overwritten(elsewhere: Path) -> None:
    (elsewhere / "pairs.csv").write_text(BEGINS)
    refused(write, Path("pairs.csv"), "the command reads this file", inputs=[Path("pairs.csv")])


def test_a_pipe_is_refused(elsewhere: Path) -> None:
    os.mkfifo("pipe")
    with pytest.raises(OutputPathError, match="a device or a pipe"):
        write(Path("pipe"))
    assert Path("pipe").is_fifo()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FULL, "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "your quota is used up"),
        (OSError(errno.EROFS, "Read-only file system", "out/a"), "read-only"),
        (pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)"), "full"),
        (OSError("No space left on device (os error 28)"), "full"),
    ],
)
@pytest.mark.parametrize("act", [make, write])
def test_a_refusal_while_writing_is_a_sentence_and_changes_nothing(
    elsewhere: Path, act: Callable[..., None], error: Exception, told: str
) -> None:
    act(Path("out"))
    before = tree(elsewhere)
    with pytest.raises(OutputPathError, match=rf"^out: cannot be written: .*{told}.* \(--output\)$"):
        act(Path("out"), raising(error))
    assert tree(elsewhere) == before


def test_what_polars_says_of_a_file_that_grows_too_large_is_understood(elsewhere: Path) -> None:
    frame = pl.DataFrame({"a": np.random.default_rng(0).random(100_000)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write_to in (frame.write_parquet, frame.write_csv):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            with pytest.raises(OutputPathError, match="larger than is allowed"), output_file(Path("a"), "") as file:
                write_to(file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree(elsewhere) == {}


def test_an_input_that_is_refused_is_not_taken_for_the_output() -> None:
    error = UserError("in.csv: cannot be read")
    error.__cause__ = PermissionError(errno.EACCES, "Permission denied", "in.csv")
    for act in (make, write):
        with pytest.raises(UserError, match=r"^in\.csv: cannot be read$"):
            act(Path("out"), raising(error))


def test_other_errors_stay_as_they_are(elsewhere: Path) -> None:
    make(Path("out"))
    for error in (ValueError("a bug"), KeyboardInterrupt(), FileNotFoundError(errno.ENOENT, "no", "x")):
        with pytest.raises(type(error)):
            make(Path("out"), raising(error))
        assert tree(elsewhere).keys() == {"out", "out/a.parquet", f"out/{MARKER}"}
    assert told_refusal(ValueError("a bug")) is None


def test_a_folder_that_another_account_owns_is_told_of(foreign_folder: ForeignFolder) -> None:
    with foreign_folder.refusing():
        for act in (make, write):
            with pytest.raises(OutputPathError, match="permission denied: let your user read and write there"):
                act(foreign_folder.path / "out")
    assert tree(foreign_folder.path) == {}

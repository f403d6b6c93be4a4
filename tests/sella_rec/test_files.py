"""An output appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sella_rec.files import atomic_output


def write_folder(path: Path, **files: str) -> None:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)


def test_nothing_at_the_final_path_until_success(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    with atomic_output(final) as folder:
        write_folder(folder, a="1")
        assert not final.exists()
        assert folder.parent == final.parent
    assert (final / "a").read_text() == "1"
    assert [path.name for path in final.parent.iterdir()] == ["out"]


def test_a_file(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_output(tmp_path / "metrics.json") as path:
            path.write_text(text)
    assert (tmp_path / "metrics.json").read_text() == "new"


def test_replaced_folder_keeps_nothing_of_the_old_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", old="1")
    with atomic_output(tmp_path / "out") as folder:
        write_folder(folder, new="2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def fail_after_writing(path: Path, kind: str) -> None:
    if kind == "folder":
        write_folder(path, new="2")
    else:
        path.write_text("2")
    raise RuntimeError("boom")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_exception_leaves_the_old_output_and_no_temporary(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path / "out", old="1")
    with pytest.raises(RuntimeError, match="boom"), atomic_output(tmp_path / "out") as path:
        fail_after_writing(path, kind)
    assert (tmp_path / "out" / "old").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writing_nothing_is_an_error_and_keeps_the_old_output(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        write_folder(tmp_path / "out", old="1")
    else:
        (tmp_path / "out").write_text("old")
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_output(tmp_path / "out"):
        pass
    assert (tmp_path / "out").is_dir() == (kind == "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_of_the_same_id_left_is_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_output(tmp_path / "out") as path:
        raise RuntimeError
    write_folder(path, stale="1")
    with atomic_output(tmp_path / "out") as path:
        write_folder(path, new="2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_relative_path_and_text_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_output("out.txt") as path:
        path.write_text("x")
    assert Path("out.txt").read_text() == "x"

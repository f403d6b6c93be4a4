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


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", old="1")
    with pytest.raises(IsADirectoryError), atomic_output(tmp_path / "folder") as path:
        path.write_text("2")
    (tmp_path / "file").write_text("old")
    with pytest.raises(NotADirectoryError), atomic_output(tmp_path / "file") as path:
        write_folder(path, new="2")
    assert (tmp_path / "folder" / "old").read_text() == "1"
    assert (tmp_path / "file").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


def test_a_link_to_a_folder_is_replaced_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", old="1")
    (tmp_path / "out").symlink_to("target")
    with atomic_output(tmp_path / "out") as path:
        write_folder(path, new="2")
    assert (tmp_path / "target" / "old").read_text() == "1"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"target", "out"}


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "out", old="1")
    really = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise OSError("refused")
        return really(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="refused"), atomic_output(tmp_path / "out") as path:
        write_folder(path, new="2")
    assert (tmp_path / "out" / "old").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

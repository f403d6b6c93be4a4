"""Outputs that a user names: written beside and moved into place, and nothing that is not ours is replaced."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sella_rec.errors import UserError
from sella_rec.files import atomic_output

MARKER = ".sella-rec"
_SHOWN = 5
_FIXES = {
    errno.ENOSPC: "the disk is full: free space there",
    errno.EDQUOT: "your quota is used up: free space there",
    errno.EFBIG: "the file would be larger than is allowed there (ulimit -f)",
    errno.EACCES: "permission denied: let your user read and write there",
    errno.EPERM: "permission denied: let your user read and write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "part of the path is a file, not a folder: rename it",
    errno.EISDIR: "a folder is there, where a file is to be written: rename it",
    errno.ENAMETOOLONG: "the name is too long: shorten it",
}


class OutputPathError(UserError):
    """Nothing can be written at a path; the message names what is there, and the fix."""


@contextmanager
def output_folder(
    path: Path,
    inputs: Iterable[Path] = (),
    older: Callable[[Path], Iterable[str]] = lambda _: (),
    option: str = "--output",
) -> Iterator[Path]:
    """Yield a temporary sibling to make a flat folder at; move it to `path` on success, signed by a file in it.

    A folder there is replaced if it is empty or holds nothing but what its signature lists. A link stays one: what it
    points to is the output.

    Args:
        inputs: local files and folders that the command reads.
        older: names of files in an unsigned folder that are known to be ours.
        option: what names the path, for messages.

    Raises:
        OutputPathError: the folder cannot be replaced or not be written; what is there is unchanged.
    """
    final = path.resolve()
    _check_place(path, final, inputs, option)
    _check_folder(path, final, older, option)
    with writing_told(path, option), atomic_output(final) as temporary:
        yield temporary
        names = sorted(each.name for each in temporary.iterdir())
        (temporary / MARKER).write_text(json.dumps({"made_by": "sella-rec", "files": names}, indent=1) + "\n")
        # what came into it while we worked
        _check_folder(path, final, older, option)


@contextmanager
def output_file(
    path: Path, begins: str, inputs: Iterable[Path] = (), option: str = "--output", beside: Path | None = None
) -> Iterator[Path]:
    """Yield a temporary sibling to write a file to; move it to `path` on success.

    Args:
        begins: with which every such file of ours begins; another file is not replaced.
        inputs: files that the command reads.
        option: what names the path, for messages.
        beside: what the option should name instead, or something beside it, if not `path`.

    Raises:
        OutputPathError: a folder or a file of another kind is there, or it cannot be written; `path` is unchanged.
    """
    check_output_file(path, begins, inputs, option, beside)
    with writing_told(path, option), atomic_output(path.resolve()) as temporary:
        yield temporary
        # what came there while we worked
        check_output_file(path, begins, inputs, option, beside)


def check_output_file(
    path: Path, begins: str, inputs: Iterable[Path] = (), option: str = "--output", beside: Path | None = None
) -> None:
    """Raise OutputPathError unless `output_file` may write there."""
    final = path.resolve()
    fix = _use(option, (beside or path).resolve())
    _check_parent(path, final, option)
    if any(final == each.resolve() for each in inputs):
        raise OutputPathError(f"{path}: the command reads this file; {fix}")
    if final.is_dir():
        raise OutputPathError(f"{path}: is a folder, not a file; {fix}")
    if final.exists() and not final.is_file():
        raise OutputPathError(f"{path}: is a device or a pipe, not a file; {_use(option, Path.cwd() / path.name)}")
    if final.is_file() and final.stat().st_size:
        with writing_told(path, option), final.open("rb") as file:
            start = file.read(len(begins.encode()))
        if start != begins.encode():
            raise OutputPathError(f"{path}: a file of another kind is there, and is kept; {fix}")


def _check_place(path: Path, final: Path, inputs: Iterable[Path], option: str) -> None:
    inside = _use(option, final / "sella-data")
    if final == Path(final.anchor) or final == Path.home().resolve():
        raise OutputPathError(f"{path}: is the root or your home folder, which is never replaced; {inside}")
    if Path.cwd().is_relative_to(final):
        raise OutputPathError(f"{path}: is the folder you are in, or holds it, and is never replaced; {inside}")
    if os.path.ismount(final):
        raise OutputPathError(f"{path}: is a mounted volume, which cannot be replaced; {inside}")
    for each in filter(Path.exists, inputs):
        read = each.resolve()
        if read.is_relative_to(final):
            raise OutputPathError(f"{path}: holds {each}, which the command reads; {_use(option, final)}")
        if final.is_relative_to(read):
            fix = _use(option, read)
            raise OutputPathError(f"{path}: is in {each}, and would be read as input the next time; {fix}")
    _check_parent(path, final, option)


def _check_parent(path: Path, final: Path, option: str) -> None:
    nearest = next(parent for parent in final.parents if parent.exists())
    if not nearest.is_dir():
        fix = _use(option, nearest.with_name(f"{nearest.name}-data") / final.name)
        raise OutputPathError(f"{path}: {nearest} is a file, so nothing can be put in it; {fix}")


def _check_folder(path: Path, final: Path, older: Callable[[Path], Iterable[str]], option: str) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise OutputPathError(f"{path}: is a file, not a folder; {_use(option, final)}")
    with writing_told(path, option):
        signed = final / MARKER
        ours = {MARKER, *_signed_names(signed)} if signed.is_file() else set(older(final))
        _refuse_foreign(path, final, ours, option)


def check_growing_folder(path: Path, signs: Iterable[str], option: str) -> None:
    """Check a folder that a command adds files to, by their names, and never replaces.

    Args:
        signs: names of files or folders of which one shows that the folder is the command's.

    Raises:
        OutputPathError: the folder is neither new nor empty nor the command's, or it is a file.
    """
    final = path.resolve()
    _check_parent(path, final, option)
    if final.exists() and not final.is_dir():
        raise OutputPathError(f"{path}: is a file, not a folder; {_use(option, final)}")
    if final.exists() and not any((final / sign).exists() for sign in signs):
        with writing_told(path, option):
            _refuse_foreign(path, final, set(), option)


def _refuse_foreign(path: Path, final: Path, ours: set[str], option: str) -> None:
    foreign = sorted(name for name in map(_name, final.iterdir()) if name not in ours)
    if foreign:
        more = f" and {len(foreign) - _SHOWN:,} more" if len(foreign) > _SHOWN else ""
        held = f"holds what this command did not write: {', '.join(foreign[:_SHOWN])}{more}"
        raise OutputPathError(f"{path}: {held}. It is kept as it is; {_use(option, final)}")


def _name(path: Path) -> str:
    if path.is_symlink():
        return f"{path.name} (a link)"
    return f"{path.name}/" if path.is_dir() else path.name


def _signed_names(signature: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads(signature.read_text())["files"]]
    except (ValueError, KeyError, TypeError):
        return []


def _use(option: str, taken: Path) -> str:
    """The fix: the option with a path beside `taken` that is free."""
    free, number = taken, 2
    while free.exists():
        free, number = taken.with_name(f"{taken.stem}-{number}{taken.suffix}"), number + 1
    shown = os.path.relpath(free) if free.is_relative_to(Path.cwd()) else str(free)
    return f"use {option} {shlex.quote(shown)}"


@contextmanager
def writing_told(path: Path, option: str) -> Iterator[None]:
    """Tell in a sentence why a path cannot be written: a full disk, no permission, a file in the way.

    Raises:
        OutputPathError: what the block does was refused for such a reason; also where a library hides that it was.
    """
    try:
        yield
    except UserError:
        # what it is about may be an input that was refused
        raise
    except Exception as error:
        reason = _refusal(error)
        if reason is None:
            raise
        raise OutputPathError(f"{path}: cannot be written: {reason}, or choose another place ({option})") from error


def told_refusal(error: Exception) -> str | None:
    """One sentence with the place and the fix, if the operating system refused to read or write; otherwise None."""
    reason = _refusal(error)
    where = getattr(error, "filename", None)
    return reason and f"{where or error}: {reason}"


def _refusal(error: BaseException | None) -> str | None:
    while error is not None:
        number = _number(error)
        if number in _FIXES:
            return _FIXES[number]
        error = error.__cause__ or error.__context__
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    # what polars raises has only the text
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None

"""What lies behind a path or pattern on a store: every file of it, or an error that names what cannot be seen.

fsspec's own `find` and `glob` pass over folders that cannot be listed, and over links to files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from sella_rec.data.errors import DataError

_WILD = re.compile(r"[*?\[]")
_WINDOWS = re.compile(r"^(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)$")
_SHOWN = 5


@dataclass
class Found:
    """Files by path, and the paths that were passed over because of their names.

    Attributes:
        sizes: path of each file -> its bytes, none where the store does not tell.
        skipped: hidden files and folders; what is in such a folder is not looked at.
    """

    sizes: dict[str, int | None] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def remark(self) -> str:
        """What was passed over, in a sentence; empty where nothing was."""
        if not self.skipped:
            return ""
        names = sorted({path.rpartition("/")[2] for path in self.skipped})
        more = ", ..." if len(names) > _SHOWN else ""
        return f"{len(self.skipped)} skipped for their names, . or _ first: {', '.join(names[:_SHOWN])}{more}"


def find(filesystem: Any, path: str, uri: str) -> Found:
    """Every file at a path: itself, or those in the folder and its subfolders, or those that match the pattern.

    A matching folder counts with all that is in it. Names that start with `.` or `_` are skipped.

    Raises:
        DataError: nothing there, or something that is neither file nor folder.
        Exception: the driver's own, where a folder cannot be listed.
    """
    found = Found()
    if isinstance(filesystem, LocalFileSystem):
        # Python's own tests say no where somebody may not look
        with suppress(FileNotFoundError, NotADirectoryError):
            Path(path).stat()
    if filesystem.isfile(path):
        found.sizes[path] = filesystem.info(path).get("size")
    elif filesystem.isdir(path):
        _add_folder(filesystem, path, found)
        if not found.sizes:
            raise DataError(f"{uri}: the folder contains no files{_but(found)}")
    elif _WILD.search(path) and not _exists(filesystem, path):
        _add_matches(filesystem, path, found)
        if not found.sizes:
            rule = f"and no file matches it as a pattern{_but(found)}"
            raise DataError(f"{uri}: no such file or folder, {rule}{_hint(filesystem, _fixed(path), path)}")
    elif isinstance(filesystem, LocalFileSystem) and os.path.lexists(path):
        raise DataError(f"{uri}: {_no_file(path)}")
    else:
        raise DataError(f"{uri}: no such file or folder{_hint(filesystem, path, path)}")
    found.sizes = dict(sorted(found.sizes.items()))
    return found


def _but(found: Found) -> str:
    return f" ({found.remark()})" if found.skipped else ""


def _add_folder(filesystem: Any, folder: str, found: Found) -> None:
    for path, is_folder, size in _walk(filesystem, folder, None, found.skipped):
        if not is_folder:
            found.sizes[path] = size


def _add_matches(filesystem: Any, pattern: str, found: Found) -> None:
    root = _fixed(pattern)
    depth = None if "**" in pattern else pattern.removeprefix(root).strip("/").count("/") + 1
    matching = re.compile(glob_translate(pattern))
    asked_for = any(part.startswith((".", "_")) for part in pattern.removeprefix(root).split("/"))
    hidden: list[str] | None = None if asked_for else []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path, is_folder, size in _walk(filesystem, root, depth, hidden):
            if matching.match(path) and is_folder:
                _add_folder(filesystem, path, found)
            elif matching.match(path):
                found.sizes[path] = size
    found.skipped += [path for path in hidden or [] if matching.match(path)]


def _fixed(pattern: str) -> str:
    """The folder above a pattern's first wildcard."""
    wild = _WILD.search(pattern)
    return (pattern[: wild.start()] if wild else pattern).rpartition("/")[0]


def _walk(
    filesystem: Any, folder: str, depth: int | None, skipped: list[str] | None
) -> Iterator[tuple[str, bool, int | None]]:
    """Path, whether it is a folder, and bytes of all below a folder.

    Args:
        depth: levels to go down; none: all.
        skipped: takes the hidden ones; none: they are like others.
    """
    listed = _local(folder) if isinstance(filesystem, LocalFileSystem) else _remote(filesystem, folder)
    for path, is_folder, size in listed:
        if skipped is not None and path.rpartition("/")[2].startswith((".", "_")):
            skipped.append(path)
            continue
        if not isinstance(is_folder, bool):
            raise DataError(f"{path}: {is_folder}")
        yield path, is_folder, size
        if is_folder and depth != 1:
            yield from _walk(filesystem, path, depth and depth - 1, skipped)


def _remote(filesystem: Any, folder: str) -> Iterator[tuple[str, bool, int | None]]:
    inside = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
    for info in filesystem.ls(folder, detail=True):
        path = info["name"].rstrip("/")
        # stores have a folder among what is in it, and web pages link to anything
        if path.startswith(inside) and path != folder.rstrip("/"):
            yield path, info["type"] == "directory", info.get("size")


def _local(folder: str) -> Iterator[tuple[str, bool | str, int | None]]:
    """As `_remote`; in place of whether it is a folder, the reason why it cannot be used."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{folder.rstrip('/')}/{entry.name}"
            yield path, _kind(entry), entry.stat().st_size if entry.is_file() else None


def _kind(entry: os.DirEntry[str]) -> bool | str:
    if entry.is_file():
        return False
    if not entry.is_dir():
        return _no_file(entry.path)
    if entry.is_symlink() and Path(entry.path).resolve() in [
        above := Path(entry.path).parent.resolve(),
        *above.parents,
    ]:
        return f"a link to {Path(entry.path).readlink()}, which holds it, so that it has no end; remove the link"
    return True


def _no_file(path: str) -> str:
    if not os.path.lexists(path):
        return "vanished while the folder was listed; run again when nothing writes there any more"
    if Path(path).is_symlink() and not Path(path).exists():
        return f"a link to {Path(path).readlink()}, which is not there; remove the link"
    return "neither a file nor a folder, but a device, pipe or socket; remove it, or write what it gives to a file"


def _exists(filesystem: Any, path: str) -> bool:
    return bool(os.path.lexists(path) if isinstance(filesystem, LocalFileSystem) else filesystem.exists(path))


def _hint(filesystem: Any, place: str, path: str) -> str:
    """What may have been meant by a path where nothing is, looked for at `place`."""
    if isinstance(filesystem, LocalFileSystem):
        windows = _WINDOWS.match(os.path.relpath(path))
        if windows:
            drive, rest = windows["drive"].lower(), windows["rest"].replace("\\", "/")
            return f"; it is a path of Windows, which this machine does not know; in WSL it is /mnt/{drive}/{rest}"
        for meant in (unquote(path), path.replace("\\", "/"), path.strip()):
            if meant != path and Path(meant).exists():
                return f"; there is {meant}"
    return _nearest(filesystem, place)


def _nearest(filesystem: Any, path: str) -> str:
    """The last folder of a path that is there, and what is in it."""
    folder = path
    while folder and not filesystem.isdir(folder):
        folder = folder.rpartition("/")[0]
    if not folder:
        return ""
    names = sorted(name.rstrip("/").rpartition("/")[2] for name in filesystem.ls(folder, detail=False))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; the folder {folder} contains {', '.join(map(repr, names[:_SHOWN])) or 'nothing'}{more}"

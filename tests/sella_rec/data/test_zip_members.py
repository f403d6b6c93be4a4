"""A zip as the data: its one file, all of one kind, or an error with addresses to paste."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import fsspec
import pytest

from sella_rec.data.errors import DataError
from sella_rec.data.input_files import fingerprint, read_files

CSV = b"user_id,item_id\n1,2\n" * 50


def pack(path: Path, *names: str, content: bytes = CSV) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


def error_of(uri: object) -> str:
    with pytest.raises(DataError) as raised:
        _ = [file.read() for file in read_files(str(uri))]
    return str(raised.value)


def test_the_only_file_of_a_known_format_is_taken(tmp_path: Path) -> None:
    path = pack(tmp_path / "Data.ZIP", "in/", "in/ratings.csv", "__MACOSX/in/._ratings.csv", "LICENCE", "in/.DS_Store")
    (file,) = read_files(str(path))
    assert (file.name, file.kind, file.read()) == (f"zip://in/ratings.csv::{path}", "csv", CSV)
    # the name is an address
    (same,) = read_files(file.name)
    assert same.read() == CSV


def test_files_of_one_format_are_parts_in_order(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", "2.csv", "1.csv", "10.csv")
    (tmp_path / "b.csv").write_bytes(CSV)
    assert [Path(file.path).name for file in read_files(str(tmp_path))] == ["1.csv", "10.csv", "2.csv", "b.csv"]
    assert [Path(file.path).name for file in read_files(f"{tmp_path}/*.zip")] == ["1.csv", "10.csv", "2.csv"]


def test_several_formats_are_an_error_with_addresses_that_can_be_pasted(tmp_path: Path) -> None:
    path = pack(tmp_path / "ml.zip", "ml/ratings.csv", "ml/it's a film.dat", "ml/README.txt")
    told = error_of(path)
    addresses = re.findall(r"'(zip://.*?::.*?\.zip)'", told)
    assert len(addresses) == 3
    for address in addresses:
        (file,) = read_files(address)
        assert file.read() == CSV


def test_a_zip_in_a_store(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/zips/a.zip", pack(tmp_path / "a.zip", "r.csv").read_bytes())
    (file,) = read_files("memory://zips/a.zip")
    assert file.name == "zip://r.csv::memory:///zips/a.zip"
    assert file.read() == CSV
    memory.rm("/zips", recursive=True)


def encrypt(path: Path) -> None:
    """Set the flag in both of its places; the content is not looked at."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)


def test_encrypted_damaged_and_useless_zips_are_errors(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", "r.csv")
    whole = path.read_bytes()
    encrypt(path)
    assert "a.zip: r.csv is encrypted; unpack it with its password" in error_of(path)
    assert "encrypted" in error_of(f"zip://r.csv::{path}")
    path.write_bytes(whole[: len(whole) // 2])
    assert "a.zip: damaged zip (File is not a zip file); copy or download it again" in error_of(path)
    assert "cannot be read: File is not a zip file" in error_of(f"zip://r.csv::{path}")
    path.write_bytes(b"")
    assert "damaged zip" in error_of(path)
    # a bit of the content
    torn = bytearray(whole)
    torn[45] ^= 0xFF
    path.write_bytes(torn)
    assert f"zip://r.csv::{path}: cannot be read: " in error_of(path)
    assert "contains no file of a known format, but 'a.pdf'" in error_of(pack(tmp_path / "b.zip", "a.pdf"))
    assert "contains no file of a known format, but nothing" in error_of(pack(tmp_path / "c.zip"))


def test_a_zip_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", "r.csv")
    (file,) = read_files(str(path))
    before, blocks = fingerprint(str(path)), file.chunks()
    next(blocks)
    pack(tmp_path / "a.zip", "r.csv", "s.csv")
    with pytest.raises(DataError, match=r"zip://r\.csv::.*a\.zip: changed while it was read"):
        list(blocks)
    assert fingerprint(str(path)) != before

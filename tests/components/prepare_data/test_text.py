"""Bytes of every encoding become the same UTF-8, or an error that names the line."""

from __future__ import annotations

import codecs
import gzip
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data import text as module
from components.prepare_data.text import is_wide, to_utf8
from sella_rec.data.errors import DataError

MARK = codecs.BOM_UTF8
FRENCH = ["Misérables, Les", "Amélie", "À bout de souffle", "Garçon!"]
CHINESE = ["霸王别姬", "大红灯笼高高挂", "活着", "卧虎藏龙", "联通"]
TITLES = [
    ("cp1252", FRENCH),
    ("cp1252", ["La Cérémonie"]),
    ("cp1252", ["It’s a “wonderful” life", "Don’t look – now"]),
    ("cp1252", ["Lola rennt", "Die Höhle des gelben Hundes", "8½"]),
    ("latin-1", FRENCH),
    ("gb18030", CHINESE),
    ("cp932", ["トトロ", "ゴジラ", "アキラ"]),
    ("euc_jp", ["七人の侍", "となりのトトロ"]),
    ("cp949", ["올드보이", "기생충", "살인의 추억"]),
    ("big5", ["臥虎藏龍", "悲情城市"]),
    ("cp1251", ["Сталкер", "Иди и смотри", "Броненосец Потёмкин"]),
    ("cp1253", ["Το βλέμμα του Οδυσσέα", "Ζορμπάς"]),
]
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def csv_text(titles: list[str]) -> str:
    return "item_id,title\n" + "".join(f'{number},"{title}"\n' for number, title in enumerate(titles))


@pytest.mark.parametrize(("encoding", "titles"), TITLES, ids=lambda value: value if isinstance(value, str) else "")
def test_encoding_is_detected_and_said(encoding: str, titles: list[str]) -> None:
    text = csv_text(titles)
    data, (note,) = to_utf8("r.csv", text.encode(encoding), None)
    assert data.decode() == text
    first = next(number for number, line in enumerate(text.splitlines(), 1) if not line.isascii())
    title = next(title for title in titles if not title.isascii())
    assert re.search(f"line {first}: .*{re.escape(title)}", note)


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("titles", [FRENCH, CHINESE])
def test_two_bytes_a_character_with_and_without_a_mark(encoding: str, titles: list[str]) -> None:
    data = csv_text(titles).encode(encoding)
    assert is_wide(data, None)
    text, notes = to_utf8("r.csv", data, None)
    assert text.decode() == csv_text(titles)
    assert notes == (f"read as {encoding}",)


def test_a_few_nul_characters_are_not_two_bytes_a_character() -> None:
    data = csv_text(["Heat\0", "Casino\0"]).encode()
    assert to_utf8("r.csv", data, None) == (data, ())
    assert not is_wide(data, None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n\ufeff", codec="utf-8"), max_size=20), min_size=1))
def test_utf8_is_taken_as_it_is_but_for_marks_before_each_part(lines: list[str]) -> None:
    text = "user_id,title\n" + "\n".join(lines)
    with_marks = "\ufeff" + text.replace("\n", "\n\ufeff")
    assert to_utf8("r.csv", with_marks.encode(), None) == (text.encode(), ())


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["cp1252", "cp1250", "cp1254", "gb18030", "utf-16", "utf-8", "shift_jis"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\ufeff")),
)
def test_a_given_encoding_decodes_as_pythons_codec(encoding: str, text: str) -> None:
    data = text.encode(encoding, "ignore")
    if not any(data.startswith(mark) for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, MARK)):
        assert to_utf8("r.csv", data, encoding)[0].decode() == data.decode(encoding)


def test_characters_on_the_border_of_two_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    text = csv_text(CHINESE)
    for size in range(1, 9):
        monkeypatch.setattr(module, "_SLICE", size)
        for encoding in ("gb18030", "utf-16"):
            assert to_utf8("r.csv", text.encode(encoding), None)[0].decode() == text


def test_a_mark_goes_before_the_setting_and_utf8_read_otherwise_is_said() -> None:
    text = csv_text(FRENCH)
    assert to_utf8("r.csv", MARK + text.encode(), "cp1252") == (text.encode(), ())
    assert to_utf8("r.csv", text.encode("utf-16"), "cp1252")[0] == text.encode()
    data, (note,) = to_utf8("r.csv", text.encode(), "cp1252")
    assert data.decode() == text.encode().decode("cp1252")
    assert "is valid UTF-8, but read as cp1252" in note


@pytest.mark.parametrize("bad", [b"L\xe9on", b"cut \xe2\x82", b"\xc3"])
def test_a_few_bytes_late_in_utf8_do_not_change_the_rest(bad: bytes) -> None:
    lines = [f"{number},{FRENCH[number % 4]}".encode() for number in range(5000)]
    lines[4321] = bad
    data, (note,) = to_utf8("r.csv", b"\n".join(lines), None)
    got = data.split(b"\n")
    assert got[:4321] + got[4322:] == lines[:4321] + lines[4322:]
    assert got[4321].decode() == bad.decode("cp1252")
    assert f"not UTF-8, while others are, and were read as cp1252 (first in line 4322: '{got[4321].decode()}'" in note


def test_two_files_of_two_encodings_put_together() -> None:
    text = csv_text(FRENCH * 50)
    for one, two in (("utf-8", "cp1252"), ("cp1252", "utf-8")):
        data, (note,) = to_utf8("r.csv", text.encode(one) + text.encode(two), None)
        assert data.decode() == text * 2
        assert "bytes are not UTF-8, while others are" in note


def test_bytes_that_cp1252_lacks_are_latin_1() -> None:
    data, (note,) = to_utf8("r.csv", csv_text([*FRENCH, "a\x81b"]).encode("latin-1"), None)
    assert data.decode() == csv_text([*FRENCH, "a\x81b"])
    assert "read as latin-1" in note


@pytest.mark.parametrize("few", [b"\xe4\xb8", "活着".encode("gb18030"), "Тень".encode("cp1251")])
def test_encoding_that_is_not_clear_is_an_error(few: bytes) -> None:
    with pytest.raises(DataError, match=r"r\.csv, line 9: the text is not UTF-8.*--set data\.encoding=cp1252"):
        to_utf8("r.csv", b"a\nb" + few, None, first_line=8)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "gb18030"])
def test_bytes_that_are_not_of_the_given_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLICE", 100)
    data = "".join(f"{number},title\n" for number in range(500)).encode() + b"500,\xff,"
    with pytest.raises(DataError, match=rf"r\.csv, line 501: b'\\xff'.* is not {encoding}; fix the line, or set"):
        to_utf8("r.csv", data, encoding)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"a,b\n" * 9, mtime=0), r"compressed by gzip; add \.gz"),
        (b"PK\x03\x04\x14\0\x06\0", "a zip file or an Excel workbook"),
        (b"PAR1\0\0", r"a Parquet file; name it \.parquet"),
    ],
)
def test_what_is_no_text_is_named(data: bytes, message: str) -> None:
    for encoding in (None, "cp1252"):
        with pytest.raises(DataError, match=rf"r\.csv: is not text but {message}"):
            to_utf8("r.csv", data, encoding)
    assert to_utf8("r.csv", b"PARIS,title\nPAR1,a\n", None)[1] == ()

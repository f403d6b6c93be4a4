"""What is secret in an address is shown nowhere, and the rest stays as it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sella_rec.addresses import has_password, password_place, shown, without_password
from sella_rec.config import ConfigError, load_config
from sella_rec.errors import UserError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        (f"https://me:{SECRET}@host/a.csv", "https://host/a.csv"),
        (f"https://{SECRET}@host/a.csv", "https://host/a.csv"),
        (f"https://me:{SECRET}@x@host:80/a.csv", "https://host:80/a.csv"),
        (f"https://me:a/{SECRET}@host/a.csv", "https://host/a.csv"),
        (
            f"postgresql+psycopg://me:{SECRET}@host:5432/db?query=SELECT 1",
            "postgresql+psycopg://host:5432/db?query=SELECT 1",
        ),
        (f"https://h/a.csv?X-Amz-Signature={SECRET}&x=1", "https://h/a.csv?X-Amz-Signature=***&x=1"),
        (f"https://h/a.csv?sv=2&sig={SECRET}%3D", "https://h/a.csv?sv=2&sig=***"),
        (f"https://h/a.csv?token={SECRET}", "https://h/a.csv?token=***"),
        (f"https://h/a.csv#access_token={SECRET}", "https://h/a.csv#access_token=***"),
        (f"https://h/a?api_key={SECRET}&AWSAccessKeyId={SECRET}", "https://h/a?api_key=***&AWSAccessKeyId=***"),
        (f"zip://r.csv::https://me:{SECRET}@host/a.zip", "zip://r.csv::https://host/a.zip"),
        (f"no answer from 'http://u:{SECRET}@h/x?password={SECRET}': gone", "no answer from 'http://h/x?password=***"),
    ],
)
def test_secrets_go(address: str, seen: str) -> None:
    assert without_password(address).startswith(seen)
    assert SECRET not in without_password(address)
    assert without_password(without_password(address)) == without_password(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/a@b/c.csv",
        "https://host:8080/a@b.csv?day=1",
        "abfs://container@account.dfs.core.windows.net/x",
        "hf://datasets/team/data@main/x.csv",
        "sqlite:///a@b.db?query=SELECT * FROM t WHERE mail = 'a@b'",
        "/data/a@b.csv",
        "ratings.csv, row 3: got 'a@b'",
    ],
)
def test_what_is_no_secret_stays(address: str) -> None:
    assert without_password(address) == address
    assert not has_password(address)


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=12), st.sampled_from(["https", "postgresql", "sftp", "s3"]))
def test_no_password_is_seen_however_it_is_written(password: str, scheme: str) -> None:
    marked = f"<{SECRET}>{password}"
    for written in (quote(marked, safe=""), marked.replace(" ", "").replace("\n", "")):
        if not any(letter.isspace() for letter in written):
            address = f"{scheme}://me:{written}@host/table.csv?sig={quote(marked, safe='')}"
            assert SECRET not in without_password(address)
            assert has_password(address)


def test_every_error_for_users_is_without() -> None:
    assert str(UserError(f"https://me:{SECRET}@host/a.csv: gone")) == "https://host/a.csv: gone"
    assert shown({"a": {"b": f"//u:{SECRET}@h"}, "c": 1, "d": None}) == {"a": {"b": "//h"}, "c": 1, "d": None}


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        (f"https://me:{SECRET}@host:80/a.csv", "put `machine host login USER password PASSWORD` into ~/.netrc"),
        (f"sftp://me:{SECRET}@host/a.csv", "set FSSPEC_SFTP_PASSWORD"),
        (f"postgresql://me:{SECRET}@host/db?query=SELECT 1", "set SELLA_DATABASE_PASSWORD"),
        (f"zip://r.csv::https://me:{SECRET}@host/a.zip", "machine host login"),
    ],
)
@pytest.mark.parametrize("setting", ["data.interactions", "data.items", "data.source"])
def test_a_password_in_the_configuration_is_refused_with_its_place(setting: str, address: str, fix: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, [f"{setting}={address}"])
    assert str(raised.value).startswith(f"{setting}: ")
    assert fix in str(raised.value)
    assert SECRET not in str(raised.value)
    assert fix.split("`")[0] in password_place(address)


class Recorder:
    """A tracker that keeps all that it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_: self.told.append(
            "".join(arg.read_text() if isinstance(arg, Path) else str(arg) for arg in args)
        )


def test_nothing_that_prepare_data_writes_holds_a_key_of_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import pandas as pd

    from components.prepare_data.step import prepare_data
    from tests.fakes.files_server import serve

    times = range(978_300_000, 978_300_060)
    rows = pd.DataFrame({"user_id": [1, 2, 3] * 20, "item_id": list(range(1, 21)) * 3, "timestamp": times})
    rows.assign(rating=[5, 1] * 30).to_csv(tmp_path / "r.csv", index=False)
    pd.DataFrame({"item_id": range(1, 21), "title": [f"T{n}" for n in range(1, 21)]}).to_csv(tmp_path / "i.csv")
    tracker = Recorder()
    with serve(tmp_path) as (address, _), caplog.at_level(logging.DEBUG):
        given = [
            f"data.{key}={address}/{name}.csv?X-Amz-Signature={SECRET}"
            for key, name in (("interactions", "r"), ("items", "i"))
        ]
        report = prepare_data(load_config(None, given), tmp_path / "out", tracker)  # type: ignore[arg-type]
        with pytest.raises(UserError) as raised:
            prepare_data(load_config(None, [*given, "data.columns.user_id=x"]), tmp_path / "other", tracker)  # type: ignore[arg-type]
    assert report["rows"]
    assert f"{address}/r.csv?X-Amz-Signature=***: no column 'x'" in str(raised.value)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith(("sella", "components")))
    texts = [*tracker.told, json.dumps(report), str(raised.value), ours]
    assert not [text for text in texts if SECRET in text]
    assert not [data for data in written if SECRET.encode() in data]

"""Data sets known by name: where their files are, and what their columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sella_rec.config import ColumnNames, DataConfig
from sella_rec.data.errors import DataError
from sella_rec.environment import cache_folder
from sella_rec.transient import retrying


@dataclass(frozen=True)
class NamedData:
    """A published data set.

    Attributes:
        interactions, items: names of its files, in a folder or in the published zip.
        columns: what they call our columns.
        urls: official address of each file to download -> its published checksum as pooch writes it, or none.
    """

    interactions: str
    items: str
    columns: ColumnNames
    urls: Mapping[str, str | None]


_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
NAMED = {
    "movielens-1m": NamedData(
        "ratings.dat",
        "movies.dat",
        ColumnNames(user_id="UserID", item_id="MovieID", timestamp="Timestamp", rating="Rating", title="Title"),
        {"https://files.grouplens.org/datasets/movielens/ml-1m.zip": "md5:c4d9eecfca2ab87c1945afe126590906"},
    ),
    "amazon-book": NamedData(
        "Books_5.json.gz",
        "meta_Books.json.gz",
        ColumnNames(user_id="reviewerID", item_id="asin", timestamp="unixReviewTime", rating="overall"),
        # no checksum is published; a cut or damaged file fails by gzip's own when it is read
        {f"{_AMAZON}/categoryFilesSmall/Books_5.json.gz": None, f"{_AMAZON}/metaFiles2/meta_Books.json.gz": None},
    ),
}


def is_named(config: DataConfig) -> bool:
    """Whether the input is a data set known by name.

    Raises:
        DataError: only one of the two tables is, or `source` is given for a data set that has its own addresses.
    """
    named = config.interactions in NAMED or config.items in NAMED
    if named and config.interactions != config.items:
        given = f"data.interactions = {config.interactions}, data.items = {config.items}"
        raise DataError(f"{given}: a named data set has both tables; set both to its name")
    if config.source is not None and not named:
        raise DataError(f"data.source = {config.source}: only for named data sets ({', '.join(NAMED)}); unset it")
    return named


def resolve(config: DataConfig) -> DataConfig:
    """The configuration with addresses and column names in place of a data set's name; downloads missing files.

    Raises:
        DataError: as `is_named`, or the download failed.
    """
    if not is_named(config):
        return config
    named = NAMED[config.interactions]
    source = config.source or str(_download(config.interactions))
    return config.model_copy(
        update={
            "interactions": _inside(source, named.interactions),
            "items": _inside(source, named.items),
            "columns": named.columns,
        }
    )


def _inside(source: str, file: str) -> str:
    return f"zip://**/{file}::{source}" if source.lower().endswith(".zip") else f"{source.rstrip('/')}/{file}"


def _download(name: str) -> Path:
    """The folder with the files, or the zip, checked; kept under `$SELLA_CACHE`, else `.cache`."""
    import pooch

    folder = cache_folder().absolute() / "data" / name
    path = folder
    for url, checksum in NAMED[name].urls.items():
        file = url.rsplit("/", 1)[1]
        try:
            retrying(partial(pooch.retrieve, url, checksum, file, folder, progressbar=True))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a checksum that differs a ValueError
            fix = "download it yourself and set data.source to its folder or zip"
            raise DataError(f"{url}: cannot be downloaded: {error}; try again, or {fix}") from error
        path = folder / file if file.endswith(".zip") else folder
    return path

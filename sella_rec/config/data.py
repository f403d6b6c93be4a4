"""The configuration's section `data`: where the input is, which of it counts, and how it is split."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from sella_rec.addresses import has_password, password_place
from sella_rec.config.base import ConfigSection

HALF = "half"


class ColumnNames(ConfigSection):
    """Names of the columns in your files; the defaults are the names that the rest of the pipeline uses.

    A named or packaged data set brings its own names, and these are ignored.
    """

    user_id: str = Field("user_id", description="Column of the user's identifier, integers or text")
    item_id: str = Field("item_id", description="Column of the item's identifier, in interactions and in items")
    timestamp: str = Field("timestamp", description="Column of the time: numbers, or dates as text")
    timestamp_unit: Literal["s", "ms", "us", "ns", "days", "excel", "year", "date"] | None = Field(
        None,
        description="Unit of times that are numbers: s, ms, us, ns or days since 1970, a spreadsheet's days (excel), "
        "year, or digits as in 20240531 (date); none: recognized, by the unit that puts most times between 1995 and "
        "tomorrow",
    )
    timestamp_format: str | None = Field(
        None,
        description="How times are written, in strptime's codes, such as %d/%m/%Y; none: numbers, or ISO 8601",
    )
    rating: str = Field("rating", description="Column of a numeric rating; read where there is no label column")
    label: str = Field("label", description="Column of the label, 1 for a like and 0 for a dislike")
    title: str = Field("title", description="Column of the item's title, in items")

    @model_validator(mode="after")
    def _unit_or_format(self) -> ColumnNames:
        if self.timestamp_unit is not None and self.timestamp_format is not None:
            raise ValueError("timestamp_unit is for numbers, timestamp_format for text; set one of them")
        return self


class DataConfig(ConfigSection):
    """What prepare-data reads, which rows it keeps, and how it splits them into train, valid and test.

    Defaults: the packaged ratings, each user's newest fifth held out. The papers' protocols are in the packaged
    configurations movielens-1m and amazon-book.
    """

    interactions: str = Field(
        "embedded:movielens",
        description="Ratings or likes: a file, folder, glob or fsspec URI; a Delta Lake or Iceberg table; a query to a "
        "database, `postgresql://user@host/db?query=SELECT ...`; or `embedded:movielens`, the packaged "
        "MovieLens; or a named data set, movielens-1m or amazon-book",
    )
    items: str = Field(
        "embedded:movielens", description="Items with item_id and title; the same kinds of address as `interactions`"
    )
    source: str | None = Field(
        None,
        description="Folder, zip or URI with the files of a named data set; none: downloaded from its official address",
    )
    columns: ColumnNames = ColumnNames()
    encoding: str | None = Field(
        None,
        description="Encoding of text files without a byte order mark, such as cp1252, latin-1, utf-16 or gb18030; "
        "none: UTF-8 where a file is that, else detected, which the report says",
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="What stands between the values of a text table, one or more characters, `tab`, `space` by name; "
        "none: comma, tab, semicolon, `|` or `::`, whichever fits the first lines",
    )
    interactions_header: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of all columns, in their order, where a text table of interactions has no header; separated "
        "by commas on the command line",
    )
    items_header: tuple[str, ...] | None = Field(None, min_length=1, description="The same for items")
    missing: list[str] = Field(
        ["nan", "null", "none", "na", "n/a", "<na>", "#n/a", "nat", "\\N", "-"],
        description="Words that stand for a missing value in any column, in upper or lower case; [] if all of them are "
        "values. Nothing, white space and zero-width characters alone are always missing",
    )
    missing_rows: Literal["error", "drop"] = Field(
        "error",
        description="Rows without a user_id, item_id, timestamp, rating or label, and items without an item_id: the "
        "step fails, or drops and counts them",
    )
    like_threshold: float = Field(
        4.0, description="A rating at or above this is a like (label 1); 4 of 5 is the usual cut for MovieLens"
    )
    reject_title: str | None = Field(
        None,
        min_length=1,
        description="Titles containing this text count as missing; Amazon-Book uses getTime, found in page source "
        "that was stored as titles; none: all titles count",
    )
    window_from: str | None = Field(None, description="ISO 8601; older rows are left out; none: no limit")
    window_until: str | None = Field(
        None, description="ISO 8601; rows at or after this time are left out; none: no limit"
    )
    min_user_rows: int = Field(1, ge=1, description="Users with fewer rows are dropped; 1 keeps all")
    min_item_rows: int = Field(
        1, ge=1, description="Items with fewer rows are dropped; counted once, before users are dropped"
    )
    duplicates: Literal["newest", "all"] = Field(
        "newest", description="Which rows of the same user and item are kept; the Amazon protocol keeps all"
    )
    catalogue: Literal["all", "with_rows"] = Field(
        "all",
        description="Which titled items the model knows: all, or with_rows, those with a row left (as in the papers)",
    )
    split: Literal["per_user", "by_time"] = Field(
        "per_user", description="per_user: each user's newest rows are held out; by_time: one cut in time for all users"
    )
    valid_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of rows (each user's, or all) in valid, just before test"
    )
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of rows in test, the newest")
    valid_from: str | None = Field(None, description="by_time: ISO 8601 start of valid, instead of valid_fraction")
    test_from: str | None = Field(
        None,
        description="by_time: ISO 8601 start of test, instead of test_fraction; or half: the newer half of the rows "
        "from valid_from on",
    )
    history_length: int = Field(10, ge=1, description="Most liked items in a prompt, the newest; 10 as in the paper")
    include_same_timestamp: bool = Field(
        False,
        validation_alias=AliasChoices("include_same_timestamp", "same_second_history"),
        description="On: likes with the row's own timestamp that precede it in the input count as history, as in the "
        "papers; off: only strictly earlier likes",
    )

    @field_validator("missing", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        # YAML turns unquoted null, nan and -1 into something else than text
        return ["null" if word is None else str(word) for word in value] if isinstance(value, list) else value

    @field_validator("interactions", "items", "source")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and has_password(value):
            fix = f"leave the password out, {password_place(value)}"
            raise ValueError(f"an address with a password, and configurations are stored in MLflow: {fix}")
        return value

    @field_validator("window_from", "window_until", "valid_from", "test_from", mode="before")
    @classmethod
    def _iso_8601(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML turns an unquoted 2016-01-01 into a date
        text = value.isoformat() if isinstance(value, date) else value
        if isinstance(text, str) and not (info.field_name == "test_from" and text == HALF):
            datetime.fromisoformat(text)
        return text

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError as error:
            raise ValueError("unknown encoding; use one of Python's names, such as cp1252") from error
        return value

    @field_validator("separator")
    @classmethod
    def _named_separator(cls, value: str | None) -> str | None:
        # white space alone does not survive the command line
        return {"tab": "\t", r"\t": "\t", "space": " "}.get(value or "", value)

    @field_validator("interactions_header", "items_header", mode="before")
    @classmethod
    def _list_as_text(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_cuts_or_none(self) -> DataConfig:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from must be given together")
        if self.valid_from is not None and self.split != "by_time":
            raise ValueError("valid_from and test_from need split: by_time")
        return self

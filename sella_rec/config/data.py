"""The configuration's section `data`: where the input is, which of it counts, and how it is split."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from sella_rec.config.base import ConfigSection

HALF = "half"


class ColumnNames(ConfigSection):
    """What the user's files call our columns."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str = "rating"
    label: str = "label"
    title: str = "title"


class DataConfig(ConfigSection):
    interactions: str = Field(
        "embedded:movielens",
        description="File, folder, glob or fsspec URI; `embedded:movielens` is the packaged MovieLens; or a named data "
        "set: movielens-1m, amazon-book",
    )
    items: str = Field("embedded:movielens", description="As interactions, with item_id and title")
    source: str | None = Field(
        None, description="Folder, zip or URI with the files of a named data set; none: its official address"
    )
    columns: ColumnNames = ColumnNames()
    like_threshold: float = Field(4.0, description="A rating at or above it is a like (label 1): MovieLens' usual cut")
    reject_title: str | None = Field(
        None, min_length=1, description="A title that holds this text counts as none (Amazon's page source: getTime)"
    )
    window_from: str | None = Field(None, description="ISO 8601; earlier rows are not read")
    window_until: str | None = Field(None, description="ISO 8601; rows at or after it are not read")
    min_user_rows: int = Field(1, ge=1, description="Users with fewer rows are dropped")
    min_item_rows: int = Field(1, ge=1, description="Items with fewer are; counted once, before either is dropped")
    duplicates: Literal["newest", "all"] = Field(
        "newest", description="Which rows of one user and item are kept; the Amazon protocol keeps all"
    )
    catalogue: Literal["all", "with_rows"] = Field(
        "all", description="Titled items to know: all, or those with a row left, as the papers do"
    )
    split: Literal["per_user", "by_time"] = Field(
        "per_user", description="per_user: each user's last rows; by_time: one cut for all users"
    )
    valid_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of rows (of each user's, or of all) before test"
    )
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the newest rows")
    valid_from: str | None = Field(None, description="by_time: ISO 8601 start of valid, instead of valid_fraction")
    test_from: str | None = Field(
        None,
        description="by_time: ISO 8601 start of test, instead of test_fraction; or half: the newer half of the rows "
        "from valid_from on",
    )
    history_length: int = Field(10, ge=1, description="Liked items in a prompt: the paper's 10")
    include_same_timestamp: bool = Field(
        False,
        validation_alias=AliasChoices("include_same_timestamp", "same_second_history"),
        description="On: likes of the row's own second that come before it in the input are history too, as in the "
        "papers; off: strictly earlier ones alone",
    )

    @field_validator("window_from", "window_until", "valid_from", "test_from", mode="before")
    @classmethod
    def _iso_8601(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML turns an unquoted 2016-01-01 into a date
        text = value.isoformat() if isinstance(value, date) else value
        if isinstance(text, str) and not (info.field_name == "test_from" and text == HALF):
            datetime.fromisoformat(text)
        return text

    @model_validator(mode="after")
    def _both_cuts_or_none(self) -> DataConfig:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from must be given together")
        if self.valid_from is not None and self.split != "by_time":
            raise ValueError("valid_from and test_from need split: by_time")
        return self

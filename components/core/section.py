"""What every section of the configuration is: frozen, and closed to keys it does not know."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

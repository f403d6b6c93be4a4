"""What every section of the configuration is: frozen, and closed to keys it does not know."""

from pydantic import BaseModel, ConfigDict

from sella_rec.errors import UserError


class ConfigSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the field and the mend."""

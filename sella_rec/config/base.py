"""The base of the configuration's sections, and the error that a wrong one raises."""

from pydantic import BaseModel, ConfigDict

from sella_rec.errors import UserError


class ConfigSection(BaseModel):
    """Base of every section: values cannot be set after loading, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the field and the fix."""

"""The error that unusable input raises."""

from sella_rec.errors import UserError


class DataError(UserError):
    """Input that cannot be used; the message names the file, the row or column, the rule and the fix."""

"""The one error that unusable input raises."""


class DataError(ValueError):
    """Input that cannot be used; the message names the file, the row or column, the rule and the mend."""

"""The base class of the errors that are meant for users."""


class UserError(Exception):
    """Something that the user can fix; the message says where and how, and commands print it without a traceback."""

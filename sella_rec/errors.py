"""The base class of the errors that are meant for users."""

from sella_rec.addresses import without_password


class UserError(Exception):
    """Something that the user can fix; the message says where and how, and commands print it without a traceback.

    Messages go into logs and to MLflow: here, where no caller can forget it, addresses lose their passwords.
    """

    def __init__(self, message: str = ""):
        super().__init__(without_password(message))

"""Addresses of data as they may be shown: without what only their owner may know."""

from __future__ import annotations

import re
from typing import Any

from sella_rec.environment import DATABASE_PASSWORD

# whose drivers take FSSPEC_SFTP_PASSWORD and the like
_WITH_ACCOUNT = ("ftp", "sftp", "ssh", "smb")
# before the host, even where / and @ are written as they are; of Azure's abfs:// it is the container
_ACCOUNT = re.compile(r"(?<!abfs:)(?<!abfss:)(?<!/)//(?:[^/\s]*|[^/\s:@]*:(?!:|\d+/)(?:(?!://)\S)*)@")
_PASSWORD = re.compile(r"(?<!/)//[^/\s:@]*:(?!:|\d+/)(?:(?!://)\S)*@")
# up to the end of the value, but for what a sentence puts behind it
_SECRET = re.compile(
    r"""(?ix) (?<=[?&\#]) (?P<name> [\w.-]* (?: token | sig | secret | passw | pwd | key | credential | auth ) [\w.-]* )
    = [^&\s\#"<>]*? (?= [:.,;)'\]]* (?: [&\s\#"<>] | $ ) )"""
)


def without_password(text: str) -> str:
    """A text, such as an error, whose addresses have no account before the host and no keys or signatures behind `?`.

    `https://me:pw@host/a.csv?sig=x` becomes `https://host/a.csv?sig=***`.
    """
    if "//" not in text:
        return text
    return _SECRET.sub(r"\g<name>=***", _ACCOUNT.sub("//", text))


def shown(tree: Any) -> Any:
    """Nested values, such as a configuration, with `without_password` for every text in them."""
    if isinstance(tree, dict):
        return {key: shown(value) for key, value in tree.items()}
    return without_password(tree) if isinstance(tree, str) else tree


def has_password(address: str) -> bool:
    """Whether an address holds an account's password before its host."""
    return _PASSWORD.search(address) is not None


def password_place(address: str) -> str:
    """Where the password of an address belongs."""
    scheme, _, rest = address.rpartition("::")[2].partition("://")
    if scheme in ("http", "https"):
        host = re.split("[:/]", rest.rpartition("@")[2])[0]
        return f"and put `machine {host} login USER password PASSWORD` into ~/.netrc, or the file that NETRC names"
    if scheme in _WITH_ACCOUNT:
        return f"and set FSSPEC_{scheme.upper()}_PASSWORD"
    return f"and set {DATABASE_PASSWORD}"

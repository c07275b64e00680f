"""Where a task's callback may go: what such a URL may look like, and which ones are allowed.

A URL is taken apart once, strictly, and compared part by part. What two programs could read in two
ways (a user name, a backslash, a dot segment, anything that is not ASCII) is refused, not repaired:
whoever sends to it must see the same host and path as whoever allowed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from kagent_sdk.errors import KagentError

MAX_URL_CHARS = 2048
URL_PATTERN = "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$"
"""What every callback URL fits, for the API's description; `parse_callback_url` knows the rest."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

_CHARACTER = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"  # pchar (RFC 3986, 3.3)
_URL = (
    r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://"
    # A name in ASCII without empty labels, an IPv4 address, or an IPv6 address without a zone.
    r"(?P<host>[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<path>(?:/(?:{_CHARACTER})*)*)"
    rf"(?:\?(?P<query>(?:{_CHARACTER}|[/?])*))?"
)


class CallbackUrlError(KagentError, ValueError):
    """A text is no URL for a callback; the message says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """A URL that everybody reads alike.

    Attributes:
        scheme: ``http`` or ``https``.
        host: in small letters; an IPv6 address without brackets.
        path: as it was given; ``/`` if it was empty.
        query: as it was given.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: what shares a fate."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def is_below(self, allowed: CallbackUrl) -> bool:
        """Whether the other one is the beginning of this one, at the border of a segment."""
        if self.origin != allowed.origin:
            return False
        beginning = allowed.path
        if not beginning.endswith("/"):
            beginning += "/"
        return self.path == allowed.path or self.path.startswith(beginning)


def parse_callback_url(text: str) -> CallbackUrl:
    """Take a URL apart.

    Raises:
        CallbackUrlError: it is none that a callback may go to.
    """
    if len(text) > MAX_URL_CHARS:
        raise CallbackUrlError(f"must not be over {MAX_URL_CHARS} characters")
    found = re.fullmatch(_URL, text)
    if found is None:
        raise CallbackUrlError(_explain(text))
    scheme = found["scheme"].lower()
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise CallbackUrlError("must have a port from 1 to 65535, or none")
    path = found["path"]
    if any(_is_dots(segment) for segment in re.split(r"[/\\]", unquote(unquote(path)))):
        raise CallbackUrlError("must not have a path with the segments . or ..")
    host = found["host"].strip("[]").lower()
    return CallbackUrl(scheme, host, port, path or "/", found["query"] or "")


def _explain(text: str) -> str:
    """Say what a text lacks to be a URL: the most likely reasons, then all the rest."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return "must be a URL of printable ASCII characters, others as %XX"
    if not text.lower().startswith(("http://", "https://")):
        return "must begin with https:// (or http://)"
    if "@" in text.split("/", 3)[2]:
        return "must not hold a user name or password"
    if "#" in text:
        return "must not hold a fragment (#)"
    return "must be a URL: a host, a port if it is not the usual one, a path and a query"


def _is_dots(segment: str) -> bool:
    # Some servers cut off what follows a semicolon before they look at the dots.
    return segment.partition(";")[0] in {".", ".."}


def parse_allowed(text: str) -> CallbackUrl:
    """Take the beginning of URLs apart, as ``callbacks.allow`` has it.

    Raises:
        CallbackUrlError: it is none.
    """
    url = parse_callback_url(text)
    if "?" in text:
        raise CallbackUrlError("must not hold a query (?): what is allowed ends with the path")
    return url


def is_allowed(url: CallbackUrl, allowed: Iterable[CallbackUrl]) -> bool:
    """Whether a callback may go there."""
    return any(url.is_below(beginning) for beginning in allowed)

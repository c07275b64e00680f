"""Read and write the heads of HTTP/1.1 messages, as strictly as two readers must to agree; pure.

What RFC 9112 lets a server forgive is refused here: one that is forgiven by the proxy and read otherwise
by the server behind it is how requests are smuggled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kagent_sdk.errors import EgressError

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_TARGET = 16 * 1024
MAX_CONTENT_LENGTH = 1 << 50

Headers = tuple[tuple[str, str], ...]

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_NAME}) ([\x21-\x7e]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_HEADER = re.compile(rf"({_NAME}):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(r"[0-9]{1,16}")

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
        *("proxy-authorization", "proxy-authentication-info", "te", "trailer", "transfer-encoding"),
        *("upgrade", "http2-settings"),
    }
)
"""Of one connection, never passed on (RFC 9110, 7.6.1)."""

CHUNKED = -1
UNTIL_CLOSE = -2
"""Kinds of bodies, besides their lengths."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request.

    Attributes:
        method, target: as they came.
        headers: in their order; names as they came, values without blanks at their ends.
        is_old: of HTTP/1.0.
        body: bytes of the body, or `CHUNKED`.
    """

    method: str
    target: str
    headers: Headers
    is_old: bool
    body: int

    def get(self, name: str) -> str | None:
        """Return the value of a header that comes once; None when it does not come.

        Raises:
            EgressError: it comes twice.
        """
        return _get_once(self.headers, name)

    @property
    def wants_close(self) -> bool:
        """Whether the client closes the connection behind it."""
        return self.is_old or "close" in _tokens(self.headers, "connection")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response.

    Attributes:
        status, reason: of its first line.
        headers: as in `RequestHead`.
        body: bytes of the body, `CHUNKED` or `UNTIL_CLOSE`.
    """

    status: int
    reason: str
    headers: Headers
    body: int


def parse_request(data: bytes) -> RequestHead:
    """Return the head of a request.

    Args:
        data: up to and with the empty line.

    Raises:
        EgressError: it is malformed, or could be read in two ways.
    """
    first, headers = _parse(data)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None or len(match[2]) > MAX_TARGET:
        raise _malformed("the request line")
    is_old = match[3] == "0"
    if not is_old and len([name for name, _ in headers if name.lower() == "host"]) != 1:
        raise _malformed("the header host")
    return RequestHead(match[1], match[2], headers, is_old, _request_body(headers, is_old=is_old))


def parse_response(data: bytes, method: str) -> ResponseHead:
    """Return the head of a response to a request with this method.

    Raises:
        EgressError: as `parse_request` does.
    """
    try:
        first, headers = _parse(data)
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise _malformed("the status line")
        status = int(match[2])
        body = _response_body(headers, status, method, is_old=match[1] == "0")
    except EgressError as exc:
        raise EgressError("bad_answer", f"the answer is malformed: {exc}") from None
    return ResponseHead(status, match[3] or "", headers, body)


def passed_on(headers: Headers, *, without: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return the headers that concern more than one connection.

    Args:
        headers: all that came.
        without: names in lower case, left out as well.
    """
    left_out = HOP_BY_HOP | set(without) | _tokens(headers, "connection")
    # Content-Length says how long the body is, whatever Connection says of it.
    left_out -= {"content-length"} - set(without)
    return [(name, value) for name, value in headers if name.lower() not in left_out]


def write_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a head as it goes over the wire."""
    lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _parse(data: bytes) -> tuple[str, Headers]:
    if not data.endswith(b"\r\n\r\n"):
        raise _malformed("the end")
    first, *lines = data[:-4].decode("latin-1").split("\r\n")
    if len(lines) > MAX_HEADERS:
        raise EgressError("bad_request", f"more than {MAX_HEADERS} headers", 431)
    headers: list[tuple[str, str]] = []
    for line in lines:
        # No blank before the colon, no folded line, no bare CR or LF: RFC 9112, 2.2 and 5.
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _malformed("a header")
        headers.append((match[1], match[2].strip(" \t")))
    return first, tuple(headers)


def _request_body(headers: Headers, *, is_old: bool) -> int:
    body = _framing(headers, is_old=is_old)
    return 0 if body is None else body


def _response_body(headers: Headers, status: int, method: str, *, is_old: bool) -> int:
    body = _framing(headers, is_old=is_old)
    if method == "HEAD" or status < 200 or status in {204, 304}:
        return 0
    return UNTIL_CLOSE if body is None else body


def _framing(headers: Headers, *, is_old: bool) -> int | None:
    """Return how long a body is by what its head says: RFC 9112, 6.3, without its mercy."""
    length = _get_once(headers, "content-length")
    encoding = _get_once(headers, "transfer-encoding")
    if encoding is not None:
        if length is not None or is_old or encoding.lower() != "chunked":
            raise _malformed("the header transfer-encoding")
        return CHUNKED
    if length is None:
        return None
    if _LENGTH.fullmatch(length) is None or int(length) > MAX_CONTENT_LENGTH:
        raise _malformed("the header content-length")
    return int(length)


def _get_once(headers: Headers, name: str) -> str | None:
    found = [value for key, value in headers if key.lower() == name]
    if len(found) > 1:
        raise _malformed(f"the header {name}")
    return found[0] if found else None


def _tokens(headers: Headers, name: str) -> set[str]:
    return {
        token.strip().lower()
        for key, value in headers
        if key.lower() == name
        for token in value.split(",")
    }


def _malformed(part: str) -> EgressError:
    return EgressError("bad_request", f"{part} is malformed")

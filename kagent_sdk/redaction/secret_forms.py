"""What a secret looks like once somebody has encoded it. Pure.

A secret rarely leaves in its own bytes alone: it stands in a JSON text, in an address, in the
header of a request, in the ``repr`` of an object. `forms_of` returns all of these as bytes to search
for. An encoding that mixes its own rules (every second character escaped) is not among them.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator

MIN_SECRET_CHARS = 6
"""Shorter ones would also be found in what is no secret."""

MAX_PIECE_CHARS = 2048
"""A longer secret is searched for in pieces of this size: a match must fit into what is at hand."""

_UNRESERVED = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
# What each way to encode leaves as it is: urllib.parse.quote with safe="/" and "" (RFC 3986),
# encodeURIComponent and encodeURI (ECMA-262, 19.2.6), forms (WHATWG URL, 5.2); last: everything.
_LEFT_ALONE = (
    _UNRESERVED + b"~/",
    _UNRESERVED + b"~",
    _UNRESERVED + b"~!*'()",
    _UNRESERVED + b"~!*'();,/?:@&=+$#",
    _UNRESERVED + b"*",
    b"",
)
# The lines around a block of RFC 7468.
_is_frame = re.compile(r"-----(?:BEGIN|END) [ -~]*-----").fullmatch
_BASE64_SHIFTS = (0, 1, 2)
_BASE64_BITS = 6


def forms_of(value: str) -> set[bytes]:
    """Return the bytes that give a secret away; empty when it is too short to search for.

    A secret of several lines, such as a PEM key, is given by its lines as well, for each may be
    written alone; so is the inside of one with blanks around it. The lines that begin and end a PEM
    block are no secret.
    """
    return {form for piece in pieces_of(value) for form in _encode(piece)}


def pieces_of(value: str) -> list[str]:
    """Return the parts of a secret that are each searched for; the whole comes first."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", value)]
    wholes = [value] if len(value) <= MAX_PIECE_CHARS else []
    texts = dict.fromkeys([*wholes, *lines])
    return [
        text[start : start + MAX_PIECE_CHARS]
        for text in texts
        if not _is_frame(text)
        for start in range(0, len(text), MAX_PIECE_CHARS)
        if len(text) - start >= MIN_SECRET_CHARS
    ]


def _encode(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield from _escape_twice(text)
    yield from _percent(raw)
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for form in set(_base64(raw)):
        yield form
        yield form.replace(b"/", rb"\/")
        yield form.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")


# In program texts and JSON


# Most secrets: nothing in them is ever escaped.
_is_plain = re.compile(r"""(?:(?!["'/\\<>&])[ -~])*""").fullmatch


def _escape_twice(text: str) -> Iterable[bytes]:
    if _is_plain(text):
        return [text.encode()]
    once = {text, *(escape(text) for escape in _ESCAPES)}
    twice = {escape(form) for form in once for escape in _ESCAPES}
    return {form.encode() for form in once | twice}


def _json_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _upper_hex(text: str) -> str:
    return re.sub(r"\\u[0-9a-f]{4}", lambda match: "\\u" + match[0][2:].upper(), text)


def _for_html(text: str) -> str:
    """Escape as encoders do whose JSON may stand in a page (Go's encoding/json)."""
    return re.sub(r"[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _repr(text: str) -> str:
    """Return what stands in a ``repr`` whose quotes are not escaped."""
    return repr(f'"{text}')[2:-1].replace("\\'", "'")


def _repr_bytes(text: str) -> str:
    return repr(b'"' + text.encode())[3:-1].replace("\\'", "'")


_ESCAPES: tuple[Callable[[str], str], ...] = (
    _json_ascii,
    _json_text,
    lambda text: _json_ascii(text).replace("/", r"\/"),
    lambda text: _json_text(text).replace("/", r"\/"),
    lambda text: _upper_hex(_json_ascii(text)),
    lambda text: _for_html(_json_ascii(text)),
    lambda text: _for_html(_json_text(text)),
    _repr,
    lambda text: _repr(text).replace("'", r"\'"),
    lambda text: _repr(text).encode("ascii", "backslashreplace").decode(),
    _repr_bytes,
    lambda text: _repr_bytes(text).replace("'", r"\'"),
)


# In addresses


def _percent(raw: bytes) -> Iterator[bytes]:
    for left_alone in _LEFT_ALONE:
        for form in ("%%%02X", "%%%02x"):
            encoded = "".join(
                chr(byte) if byte in left_alone else form % byte for byte in raw
            ).encode()
            yield encoded
            yield encoded.replace(b"%20", b"+")


# In base64


def _base64(raw: bytes) -> Iterator[bytes]:
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(raw)
        for shift in _BASE64_SHIFTS:
            # Characters that also hold bits of what stands before or after are left off.
            first = -(-8 * shift // _BASE64_BITS)
            last = 8 * (shift + len(raw)) // _BASE64_BITS
            yield encode(bytes(shift) + raw)[first:last]

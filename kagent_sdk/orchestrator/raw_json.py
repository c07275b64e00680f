"""JSON taken apart without building it: payloads stay the bytes that came. Pure.

Call `check_text` (or `split`) on what comes from outside first, in a thread when it is large.
"""

from __future__ import annotations

import json
import math
from typing import Any

from kagent_sdk.protocol.json_text import (
    JsonTextError,
    check_text,
    read_member,
    skip_blank,
    skip_value,
)

MAX_MEMBERS = 1000


def split(text: bytes) -> dict[str, bytes]:
    """Return the raw members of a text that holds one object.

    Raises:
        JsonTextError: it is no JSON, no object, or has a key twice.
    """
    check_text(text)
    return members(text)


def members(text: bytes) -> dict[str, bytes]:
    """Return the raw members of an object whose text is known to be valid UTF-8.

    Raises:
        JsonTextError: it is no JSON, no object, or has a key twice.
    """
    position = skip_blank(text, 0)
    if text[position : position + 1] != b"{":
        raise JsonTextError("expected an object", position)
    found: dict[str, bytes] = {}
    position = skip_blank(text, position + 1)
    while text[position : position + 1] != b"}":
        start = position
        raw_key, raw, position = read_member(text, start)
        key = raw_key[1:-1].decode() if b"\\" not in raw_key else json.loads(raw_key)
        if key in found:
            raise JsonTextError("a key comes twice, again", start)
        if len(found) == MAX_MEMBERS:
            raise JsonTextError(f"more than {MAX_MEMBERS} members", start)
        found[key] = raw
    _check_end(text, position + 1)
    return found


def items(text: bytes, limit: int) -> list[bytes]:
    """Return the raw items of an array whose text is known to be valid UTF-8.

    Raises:
        JsonTextError: it is no JSON, no array, or has more items than ``limit``.
    """
    position = skip_blank(text, 0)
    if text[position : position + 1] != b"[":
        raise JsonTextError("expected an array", position)
    found: list[bytes] = []
    position = skip_blank(text, position + 1)
    while text[position : position + 1] != b"]":
        if len(found) == limit:
            raise JsonTextError(f"more than {limit} items", position)
        end = skip_value(text, position)
        found.append(text[position:end])
        position = skip_blank(text, end)
        separator = text[position : position + 1]
        if separator == b",":
            position = skip_blank(text, position + 1)
            if text[position : position + 1] == b"]":
                raise JsonTextError("expected an item", position)
        elif separator != b"]":
            raise JsonTextError("expected , or ]", position)
    _check_end(text, position + 1)
    return found


def value(raw: bytes | None) -> Any:
    """Return a small value as Python has it; None for one that is not there.

    Raises:
        JsonTextError: it is no JSON that Python can hold.
    """
    if raw is None:
        return None
    try:
        return json.loads(raw, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise JsonTextError("not readable", 0) from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)  # written out again it would be no JSON
    return number


def _refuse(text: str) -> None:
    raise ValueError(text)


def _check_end(text: bytes, position: int) -> None:
    position = skip_blank(text, position)
    if position != len(text):
        raise JsonTextError("something follows the value", position)

"""How a line of a worker's output says which task it belongs to. Pure.

Two tasks print at the same time into the same pipe. The worker's ``sys.stdout`` and ``sys.stderr``
therefore put a tag before each line that is printed inside a task or a loop::

    RS {"task_id":"…","capability":"…","attempt":1} US the line as it was printed LF

RS (0x1e) and US (0x1f) are the record and unit separators of ASCII, which texts do not hold. The
host takes the tag off again and writes its members into the line's record. What comes from a worker
is trusted in nothing: a tag that is not exactly like this is a part of the line.
"""

from __future__ import annotations

import json
from typing import Any

START = b"\x1e"
END = b"\x1f"

MAX_TAG_BYTES = 2048
"""Of the object between the separators: an id, a name and a trace are far less."""

_TEXTS = frozenset({"task_id", "capability", "trace_id", "loop"})
_NUMBERS = frozenset({"attempt", "run"})
_MAX_TEXT_CHARS = 300


def encode_tag(members: dict[str, str | int]) -> bytes:
    """Return the tag that goes before each line of a task or a loop.

    Args:
        members: of ``task_id``, ``capability``, ``attempt``, ``trace_id``, ``loop`` and ``run``
            those that are known.
    """
    return START + json.dumps(members, separators=(",", ":")).encode() + END


def split_tag(line: bytes) -> tuple[bytes, bytes]:
    """Return the object of a line's tag and the rest of the line; no object when it has no tag.

    The object is not checked: see `decode_tag`, which a reader calls once for each distinct one.
    """
    if not line.startswith(START):
        return b"", line
    end = line.find(END, 1, MAX_TAG_BYTES + 2)
    return (line[1:end], line[end + 1 :]) if end > 0 else (b"", line)


def decode_tag(tag: bytes) -> dict[str, str | int] | None:
    """Return the members of a tag's object; None when it is not what `encode_tag` makes."""
    try:
        members = json.loads(tag)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict) or not members:
        return None
    return members if all(_is_known(key, value) for key, value in members.items()) else None


def _is_known(key: str, value: Any) -> bool:
    if key in _TEXTS:
        return isinstance(value, str) and len(value) <= _MAX_TEXT_CHARS
    return key in _NUMBERS and type(value) is int and 0 <= value < 2**53

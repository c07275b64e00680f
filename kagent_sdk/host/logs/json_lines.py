"""One record as a line of JSON: made of text, or of what already was an object. Pure.

What a worker writes as JSON is kept letter by letter; missing members are added at its end. Where a
line comes from is the host's to say: a worker's own ``stream``, ``agent`` or ``pid``, if they say
something else, are renamed to ``worker_stream``, ``worker_agent`` and ``worker_pid``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic_core import from_json

_ESCAPED = (
    (b"\\", rb"\\"),  # first, or it would escape the others
    (b'"', rb"\""),
    (b"\t", rb"\t"),
    (b"\r", rb"\r"),
    *((b"%c" % byte, rb"\u%04x" % byte) for byte in range(32) if byte not in b"\t\n\r"),
)
_TEXT_KEYS = ("message", "msg")


def escape(text: bytes) -> bytes:
    r"""Return text as it stands between the quotes of JSON; newlines are left as they are.

    Bytes that are not UTF-8 become ``\xNN``. Works on any number of lines at once.
    """
    if not text.isascii():
        text = text.decode(errors="backslashreplace").encode()
    # Thirty searches for one byte each are faster than one for any of thirty.
    for plain, escaped in _ESCAPED:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


def quote(text: bytes) -> bytes:
    """Return text as a string of JSON."""
    return b'"%b"' % escape(text).replace(b"\n", rb"\n")


@dataclass(frozen=True)
class Source:
    """Where lines come from: the members that are the host's to say.

    Attributes:
        stream: ``host``, ``stdout`` or ``stderr``.
        agent: the agent's name.
        pid: of the process that the host started.
    """

    stream: str
    agent: str
    pid: int

    @cached_property
    def members(self) -> Mapping[str, Any]:
        """The members as an object."""
        return {"stream": self.stream, "agent": self.agent, "pid": self.pid}

    @cached_property
    def text(self) -> bytes:
        """The members as they stand within an object."""
        return encode(self.members)[1:-1]


def encode(document: Mapping[str, Any]) -> bytes:
    """Return an object as JSON; what JSON does not know is told as text.

    Raises:
        ValueError: it holds infinity or not a number, or an object that holds itself.
    """
    text = json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
    )
    return text.encode(errors="backslashreplace")


def complete(line: bytes, source: Source, *, stamp: bytes, tag: bytes = b"") -> bytes | None:
    """Return a line of JSON with the members that every record has; None when it is no object.

    Args:
        line: as the worker wrote it.
        source: where it came from.
        stamp: when it came.
        tag: a JSON object with what is known of the task.
    """
    line = line.strip()
    try:
        document = from_json(line, allow_inf_nan=False)
        if type(document) is not dict:
            return None
        if any(document.get(key, value) != value for key, value in source.members.items()):
            document = _disown(document, source)
            line = encode(document)
    except (ValueError, RecursionError):
        return None
    missing = {
        key: value
        for key, value in _expected(document, source, stamp, tag).items()
        if key not in document
    }
    if not missing:
        return line
    comma = b"," if document else b""
    return b"%b%b%b}" % (line[:-1], comma, encode(missing)[1:-1])


def _disown(document: dict[str, Any], source: Source) -> dict[str, Any]:
    """Take from an object what it must not say of where it comes from."""
    own = {key: document.pop(key) for key in source.members if key in document}
    for key, value in own.items():
        if value != source.members[key]:
            document[f"worker_{key}"] = value
    return document


def _expected(
    document: Mapping[str, Any], source: Source, stamp: bytes, tag: bytes
) -> dict[str, Any]:
    texts = [document[key] for key in _TEXT_KEYS if isinstance(document.get(key), str)]
    known: dict[str, Any] = json.loads(tag) if tag else {}
    return {
        "timestamp": stamp.decode(),
        "level": "info",
        "event": texts[0] if texts else "",
        **source.members,
        **known,
    }

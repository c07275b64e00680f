"""Records as a person reads them on a terminal. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_HEAD = frozenset({"timestamp", "level", "event", "stream", "agent", "pid", "exception", "stack"})
_BLOCKS = ("stack", "exception")
_COLOURS = {
    "debug": "\x1b[2m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_DIM = "\x1b[2m"
_RESET = "\x1b[0m"
_STYLING = re.compile(r"\x1b\[[\d;:]{0,40}m")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Display:
    """Shows records as text: what was printed as it was printed, events with their values.

    Args:
        has_colour: colour levels, and leave a text its own colours; without, none of both.
    """

    def __init__(self, *, has_colour: bool) -> None:
        self._has_colour = has_colour

    def render(self, lines: bytes) -> bytes:
        """Return the text for lines of JSON, one for each record."""
        texts = [self._render(line) for line in lines.split(b"\n") if line]
        return "".join(texts).encode(errors="replace")

    def _render(self, line: bytes) -> str:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            return f"{self._clean(line.decode(errors='replace'))}\n"
        event = self._clean(str(record.get("event", "")))
        values = " ".join(
            f"{self._clean(key)}={self._clean(str(value))}"
            for key, value in record.items()
            if key not in _HEAD
        )
        blocks = [self._clean(str(record[key])).rstrip() for key in _BLOCKS if key in record]
        text = f"{event}{self._styled(_DIM, ' ' + values) if values else ''}"
        return "\n".join([f"{self._prefix(record)}{text}", *blocks]) + "\n"

    def _prefix(self, record: Mapping[str, Any]) -> str:
        level = self._clean(str(record.get("level", "info")))
        if record.get("stream") != "host" and level == "info":
            return ""
        return self._styled(_COLOURS.get(level, ""), f"{level:<8}") + " "

    def _styled(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self._has_colour and style else text

    def _clean(self, text: str) -> str:
        """Take out what steers a terminal; colours may stay, and end with the text."""
        if text.isprintable():
            return text
        parts = _STYLING.split(text)
        cleaned = [_UNPRINTABLE.sub(_spell_out, part) for part in parts]
        if not self._has_colour or len(parts) == 1:
            return "".join(cleaned)
        stylings = [*_STYLING.findall(text), _RESET]
        return "".join(part + styling for part, styling in zip(cleaned, stylings, strict=True))


def _spell_out(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"

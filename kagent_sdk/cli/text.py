"""Make strings and numbers fit for a terminal. Pure.

A string that came over the wire is hostile until `clean` has seen it: a terminal obeys escape
sequences, wherever they come from (CWE-150).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# C0 without tab and newline, DEL, C1, direction marks and overrides (CVE-2021-42574), line and
# paragraph separators, zero-width characters, lone surrogates, tag characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAKS = re.compile(r"[\t\n]+")

MAX_CHARS = 20_000
"""What one string may take of a screen: the longest message that the protocol allows, twice."""

UNKNOWN = "-"
KIBIBYTE = 1024.0
MICROSECOND_S = 1e-6
MILLISECOND_S = 1e-3
MINUTE_S = 60.0
WHOLE_UNITS = 100  # from here on tenths of a unit are noise
WHOLE_MS = 10  # from here on tenths of a millisecond are noise
LAST_BYTE = 0xFF


def clean(value: object, *, limit_chars: int = MAX_CHARS) -> str:
    r"""Return a string that a terminal shows and does not obey; tabs and newlines stay.

    What is unsafe becomes visible: an escape is shown as ``\x1b``.
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit_chars:
        text = text[: limit_chars - 1] + "…"
    return _UNSAFE.sub(_escape, text)


def is_clean(text: str) -> bool:
    """Return whether a terminal would obey nothing in a text."""
    # What is printable is never unsafe, and is found out seven times as fast.
    return text.isprintable() or _UNSAFE.search(text) is None


def clean_line(value: object, *, limit_chars: int = 2000) -> str:
    """Return a string as `clean` does, on one line."""
    return _BREAKS.sub(" ", clean(value, limit_chars=limit_chars)).strip()


def safe_json(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    r"""Return JSON that parses to the same value and holds nothing that a terminal obeys.

    Args:
        value: what `json.loads` may return.
        indent: spaces per level; None writes it compact, on one line.
        ascii_only: escape everything beyond ASCII.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)
    return _UNSAFE.sub(_escape_json, text)


def format_bytes(count: float | None) -> str:
    """Return a size in binary units, such as ``36.5 MiB``; ``-`` when it is not known."""
    if count is None:
        return UNKNOWN
    size = float(count)
    if abs(size) < KIBIBYTE:
        return f"{size:.0f} B"
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < KIBIBYTE:
            break
        size, unit = size / KIBIBYTE, larger
    return f"{size:.1f} {unit}" if abs(size) < WHOLE_UNITS else f"{size:.0f} {unit}"


def format_duration(seconds: float | None) -> str:
    """Return a duration in the unit that fits, such as ``1.2 ms`` or ``3 h 04 min``."""
    if seconds is None:
        return UNKNOWN
    if seconds < MINUTE_S:
        return _format_short(max(seconds, 0.0))
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest_s:02d} s"


def _format_short(seconds: float) -> str:
    if seconds < MILLISECOND_S:
        return f"{seconds / MICROSECOND_S:.0f} µs"
    if seconds >= 1:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    milliseconds = seconds / MILLISECOND_S
    return f"{milliseconds:.1f} ms" if milliseconds < WHOLE_MS else f"{milliseconds:.0f} ms"


def parse_time(text: object) -> datetime | None:
    """Return an RFC 3339 time, or None when it is not one."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def format_age(text: object, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was, such as ``3 s ago``; ``-`` when not known."""
    at = parse_time(text)
    if at is None:
        return UNKNOWN
    age_s = (now - at).total_seconds()
    if age_s < 1:
        return "just now"
    if age_s < MINUTE_S:
        return f"{age_s:.0f} s ago"
    return f"{format_duration(age_s)} ago"


def took_s(started_at: object, finished_at: object, now: datetime) -> float | None:
    """Return the seconds between two RFC 3339 times; until now when the second is not there."""
    started = parse_time(started_at)
    if started is None:
        return None
    return max(0.0, ((parse_time(finished_at) or now) - started).total_seconds())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something was misspelt

    names = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), names, n=1)
    return names[found[0]] if found else None


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= LAST_BYTE else f"\\u{code:04x}"


def _escape_json(match: re.Match[str]) -> str:
    # A newline of the indentation is not in _UNSAFE; beyond the BMP JSON wants a pair.
    return json.dumps(match[0], ensure_ascii=True)[1:-1]

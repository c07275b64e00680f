"""The lines of an agent's log: read them, and choose among them. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from kagent_sdk.cli.text import clean, is_clean, parse_time, safe_json

LEVELS = ("debug", "info", "warning", "error", "critical")
"""From the least severe on."""

_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?[smhdw])+")
_PART = re.compile(r"([\d.]+)([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_TIMESTAMP = re.compile(rb'\{"timestamp": ?"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"')
"""Where a record begins as the host writes it, its time is there without parsing the rest."""

MAX_LINE_CHARS = 1024 * 1024
"""Of a line that is no record; the host cuts lines far below."""


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Return a line's record; None when it is none, because it is torn for example."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def parse_since(text: str, now: datetime) -> datetime:
    """Return the time that is meant by ``10m``, ``1h30m`` ago, or by an ISO 8601 time.

    Args:
        text: what the user wrote; a time without a zone is in UTC, as the log is.
        now: with a zone.

    Raises:
        ValueError: it is neither.
    """
    if _DURATION.fullmatch(text):
        parts = _PART.findall(text)
        seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
        try:
            return now - timedelta(seconds=seconds)
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    at = parse_time(text)
    if at is None:
        raise ValueError(f"{text!r} is neither a duration nor a time")
    return at


class LogFilter:
    """Which records are wanted; None: any.

    Args:
        task_id: only those of this task.
        level: only those, and more severe ones.
        since: only from then on.
    """

    def __init__(
        self,
        task_id: str | None = None,
        level: str | None = None,
        since: datetime | None = None,
    ) -> None:
        self.task_id = task_id
        self.level = level
        self.since = since
        self.wants_all = task_id is None and level is None and since is None
        # An id that JSON may write in several ways is left to `wants`.
        is_plain = task_id is not None and re.fullmatch(r"[\w.-]+", task_id, re.ASCII)
        self._id = (task_id or "").encode() if is_plain else b""
        self._levels = () if level is None else LEVELS[severity(level) :]
        self._level_words = [each.encode() for each in self._levels]
        self._first = b"" if since is None else timestamp(since)

    def may_want(self, line: bytes) -> bool:
        """Tell, without parsing a line, whether it could be wanted: of a large log most are not."""
        if self._id not in line:
            return False
        # A level that nobody knows is ``info``, and letters may be written as numbers.
        if "info" not in self._levels and b"\\u" not in line:
            wanted = not self._level_words or any(word in line for word in self._level_words)
        else:
            wanted = True
        written = _TIMESTAMP.match(line) if wanted and self._first else None
        return wanted and (written is None or written[1] >= self._first)

    def wants(self, record: dict[str, Any] | None) -> bool:
        """Tell whether a record is wanted; a line that is none has no task, level or time."""
        if record is None:
            return self.wants_all
        if self.task_id is not None and record.get("task_id") != self.task_id:
            return False
        if self.level is not None and severity(record.get("level")) < severity(self.level):
            return False
        if self.since is None:
            return True
        at = parse_time(record.get("timestamp"))
        return at is not None and at >= self.since


def timestamp(at: datetime) -> bytes:
    """Return a time as the host writes it: such texts are in the order of their times."""
    text = at.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z").encode()


def severity(level: object) -> int:
    """Return how severe a level is, from 0 on; one that is not known counts as ``info``."""
    return LEVELS.index(level) if isinstance(level, str) and level in LEVELS else 1


def show_json(line: bytes) -> str:
    """Return a line for a program: as it is, unless a terminal would obey something in it."""
    text = line.decode(errors="backslashreplace")
    if is_clean(text):
        return text
    record = parse_record(line)
    return clean(text, limit_chars=MAX_LINE_CHARS) if record is None else safe_json(record)

"""A record of the log as a person reads it: time, level, event, keys; tracebacks below. Pure."""

from __future__ import annotations

from typing import Any

import click

from kagent_sdk.cli.text import clean, clean_line, parse_time, safe_json

QUIET = "bright_black"
LEVEL_STYLES: dict[str, dict[str, Any]] = {
    "debug": {"fg": QUIET},
    "info": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "error": {"fg": "red"},
    "critical": {"fg": "red", "bold": True},
}
LEVEL_COLUMNS = 8

NO_TIME = "            "
INDENT = "    "

TRACEBACKS = ("exception", "traceback", "stack")
"""Shown below, in this order, after every other value of several lines."""

OWNER = ("capability", "task_id", "attempt", "loop", "run")
"""Whose line it is, quietly at its end."""

HIDDEN = frozenset({"timestamp", "level", "event", "stream", "agent", "pid", "trace_id"})
"""Has a place of its own, or is the same on every line: ``--json`` shows it."""


class LogScreen:
    """Formats records one after the other; a line with the day comes before the first of it."""

    def __init__(self) -> None:
        self._day = ""

    def show(self, record: dict[str, Any] | None, line: bytes) -> str:
        """Return a record for a terminal; a line that is none is shown as it is, but harmless."""
        if record is None:
            return clean(line.decode(errors="backslashreplace"))
        return self._new_day(record) + format_record(record)

    def _new_day(self, record: dict[str, Any]) -> str:
        at = parse_time(record.get("timestamp"))
        day = self._day if at is None else f"{at:%Y-%m-%d} UTC"
        if day == self._day:
            return ""
        self._day = day
        return click.style(day, fg=QUIET) + "\n"


def format_record(record: dict[str, Any]) -> str:
    """Return a record in colour: one line, and below it what has several lines."""
    level = clean_line(record.get("level", "info"), limit_chars=20)
    event, _, below = clean(record.get("event", "")).partition("\n")
    line = [
        click.style(_time(record.get("timestamp")), fg=QUIET),
        click.style(f"{level:<{LEVEL_COLUMNS}}", **LEVEL_STYLES.get(level, {})),
        click.style(event, bold=True) if record.get("stream") == "host" else event,
    ]
    blocks = [below] if below else []
    tracebacks = []
    for key, value in record.items():
        if key in HIDDEN or key in OWNER:
            continue
        if key in TRACEBACKS:
            tracebacks.append(_text(value))
        elif isinstance(value, str) and "\n" in value:
            blocks.append(f"{clean_line(key)}:\n{clean(value)}")
        else:
            name = click.style(f"{clean_line(key, limit_chars=100)}=", fg="cyan")
            line.append(name + format_value(value))
    owner = [f"{key}={format_value(record[key])}" for key in OWNER if key in record]
    if owner:
        line.append(click.style(" ".join(owner), fg=QUIET))
    text = "\n".join([*blocks, *tracebacks])
    rows = [f"{INDENT}{row}" for row in text.split("\n")] if text else []
    return "\n".join([" ".join(line), *rows])


def format_value(value: object) -> str:
    """Return a value on one line; in quotes where it would not be seen to be one."""
    if isinstance(value, str) and value and not set(value) & set(" \t\"'="):
        return clean_line(value)
    return clean_line(safe_json(value))


def _time(text: object) -> str:
    at = parse_time(text)
    return NO_TIME if at is None else f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def _text(value: object) -> str:
    return clean(value if isinstance(value, str) else safe_json(value)).rstrip("\n")

"""A log line of the worker's as one JSON object. Pure: it writes nothing and reads no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

LEVELS = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))
"""From so much on (`logging`), a level is called so; anything less is ``debug``."""

SYNONYMS = {"warn": "warning", "exception": "error", "err": "error", "fatal": "critical"}
"""Names of structlog's methods that are no levels."""

MAX_EXCEPTION_CHARS = 20_000
"""Of a traceback; its end, which tells most, gets three quarters."""

OMISSION = "\n  ...\n"


def level_name(number: int) -> str:
    """Return what a level of `logging` is called in the log."""
    return next((name for least, name in LEVELS if number >= least), "debug")


def encode_record(
    at_s: float,
    level: str,
    event: str,
    owner: Mapping[str, str | int],
    values: Mapping[str, object],
    exception: str | None = None,
) -> bytes:
    """Return a whole line: one JSON object and a newline.

    Args:
        at_s: when it happened, as `time.time` gives it.
        level: ``debug`` to ``critical``, or a synonym of structlog's.
        event: what happened.
        owner: ``task_id`` and the other keys of the task or loop; these keys win.
        values: the author's keys. One that has the name of another key gets a ``_`` at its end,
            unless it says the same.
        exception: the traceback.
    """
    members: dict[str, object] = {
        "timestamp": timestamp(at_s),
        "level": SYNONYMS.get(level, level),
        "event": event,
        **owner,
    }
    for key, value in values.items():
        name = str(key)
        while name in members and members[name] != value:
            name += "_"
        members[name] = value
    if exception is not None:
        members["exception"] = shorten(exception)
    return _to_json(members) + b"\n"


def timestamp(at_s: float) -> str:
    """Return a time in UTC, with microseconds, as RFC 3339 has it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def shorten(text: str) -> str:
    """Return a traceback in at most `MAX_EXCEPTION_CHARS`, without its last newline."""
    text = text.rstrip("\n")
    if len(text) <= MAX_EXCEPTION_CHARS:
        return text
    room = MAX_EXCEPTION_CHARS - len(OMISSION)
    return text[: room // 4] + OMISSION + text[-(room - room // 4) :]


def _to_json(members: dict[str, object]) -> bytes:
    try:
        text = _dump(members)
    except (ValueError, TypeError, RecursionError):
        # NaN, a circle, or an object whose `repr` fails: that value alone is shown differently.
        text = _dump({key: _plain(value) for key, value in members.items()})
    return text.encode(errors="backslashreplace")


def _dump(value: object) -> str:
    # NaN and Infinity are no JSON: most readers refuse the whole line for them.
    return json.dumps(value, default=_show, skipkeys=True, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    try:
        return json.loads(_dump(value))
    except (ValueError, TypeError, RecursionError):
        return _show(value)


def _show(value: object) -> str:
    try:
        return value.isoformat() if isinstance(value, datetime) else repr(value)
    except Exception as exc:  # noqa: BLE001 - an author's __repr__ may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(exc).__name__}>"

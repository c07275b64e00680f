"""Tasks, as a table, and one task in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.style import (
    BAD,
    NAME,
    QUIET,
    WARN,
    indented,
    pairs,
    plain_table,
    state,
    styled,
    title,
    word,
)
from kagent_sdk.cli.text import clean_line, format_age, format_duration, safe_json, took_s

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType
    from rich.table import Table

Task = dict[str, Any]
"""A task document, not trusted."""

MAX_OUTPUT_CHARS = 20_000
MAX_NOTE_CHARS = 60
WHOLE_PERCENT = 100


def task_table(tasks: list[Task], now: datetime) -> Table:
    """Return tasks, one to a line, the newest first as the agent sends them.

    Those of an orchestrator say which agent has them.
    """
    agent = ("AGENT",) if any("agent" in task for task in tasks) else ()
    table = plain_table(
        "TASK", "CAPABILITY", *agent, "STATE", "AGE", "TOOK", "", right=("TOOK",), fold=("TASK", "")
    )
    for task in tasks:
        table.add_row(
            word(task.get("id"), NAME),
            word(task.get("capability")),
            *(word(task.get("agent")) for _ in agent),
            state(task.get("state")),
            word(format_age(task.get("created_at"), now), QUIET),
            word(format_duration(_took_s(task, now)), QUIET),
            _note(task),
        )
    return table


def task_detail(task: Task, now: datetime) -> Group:
    """Return all that is known of one task."""
    rows: list[tuple[str, RenderableType]] = [
        ("capability", word(task.get("capability"))),
        ("state", state(task.get("state"))),
    ]
    if "agent" in task:
        rows.insert(1, ("agent", word(task["agent"])))
    note = _note(task)
    if note:
        rows.append(("progress" if task.get("error") is None else "error", note))
    rows += [
        ("created", _moment(task.get("created_at"), now)),
        ("started", _moment(task.get("started_at"), now)),
        ("finished", _moment(task.get("finished_at"), now)),
        ("took", word(format_duration(_took_s(task, now)))),
        ("attempt", word(task.get("attempt"))),
    ]
    if task.get("trace_id"):
        rows.append(("trace", word(task["trace_id"])))
    if task.get("metadata"):
        rows.append(("metadata", Text(safe_json(task["metadata"]))))
    parts: list[RenderableType] = [word(task.get("id"), NAME), indented(pairs(rows))]
    parts += _payload("details", _details(task))
    parts += _payload("output", task.get("output"))
    return Group(*parts)


def _payload(head: str, value: object) -> list[RenderableType]:
    if value is None:
        return []
    text = safe_json(value, indent=2)
    if len(text) > MAX_OUTPUT_CHARS:
        text = f"{text[:MAX_OUTPUT_CHARS]}\n… all of it: --json"
    return [Text(), title(head), indented(Text(text))]


def _details(task: Task) -> object:
    error = task.get("error")
    return error.get("details") if isinstance(error, dict) else None


def _note(task: Task) -> Text:
    error, progress = task.get("error"), task.get("progress")
    if isinstance(error, dict):
        code, message = clean_line(error.get("code")), clean_line(error.get("message"))
        style = WARN if task.get("state") == "canceled" else BAD
        return styled(code, style).append(f"  {message}", QUIET)
    if isinstance(progress, dict) and task.get("finished_at") is None:
        return _progress(progress.get("fraction"), progress.get("message"))
    return Text()


def _progress(fraction: object, message: object) -> Text:
    percent = f"{fraction * WHOLE_PERCENT:.0f} %" if isinstance(fraction, int | float) else ""
    said = clean_line(message, limit_chars=MAX_NOTE_CHARS) if message else ""
    return styled(percent, "cyan").append(f"  {said}" if percent and said else said, QUIET)


def _moment(at: object, now: datetime) -> Text:
    if not isinstance(at, str):
        return word(None)
    return word(at).append(f"  {format_age(at, now)}", QUIET)


def _took_s(task: Task, now: datetime) -> float | None:
    return took_s(task.get("started_at"), task.get("finished_at"), now)

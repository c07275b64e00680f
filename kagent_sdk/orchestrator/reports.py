"""What agents report, read with care: results keep their output as the bytes that came. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kagent_sdk.orchestrator import raw_json
from kagent_sdk.orchestrator.task import Ending
from kagent_sdk.protocol.headers import is_task_id
from kagent_sdk.protocol.json_text import JsonTextError
from kagent_sdk.protocol.link import MAX_REPORTS, WORD_PATTERN
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskFailure, TaskState

MAX_ID_CHARS = 128
MAX_CODE_CHARS = 64
MAX_MESSAGE_CHARS = 10_000
MAX_EVENT_ID = 2**53
MAX_SMALL_BYTES = 64 * 1024
"""Of an error with its details, or of a progress: what is built in memory."""

TOLD_BY_OTHERS = frozenset({"state", "task", "gap"})
"""Kinds of events that the orchestrator tells itself: of all attempts, and not of one alone."""

_is_word = re.compile(WORD_PATTERN).fullmatch
_is_kind = re.compile(r"[a-z_]{1,32}").fullmatch


@dataclass(frozen=True, slots=True)
class ReportIn:
    """One report as it came. ``payload`` is raw JSON."""

    id: str
    task: str
    lease: str
    is_result: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class EventIn:
    """An event as an agent reports it. ``data`` is raw JSON."""

    id: int
    kind: str
    data: bytes


def read_reports(body: bytes) -> list[ReportIn]:
    """Read the body of ``POST …/reports``.

    Raises:
        JsonTextError: it is no JSON.
        ValueError: it is, and something else than reports; the message says where.
    """
    found = raw_json.split(body)
    reports = []
    for number, raw in enumerate(raw_json.items(found.get("items", b"null"), MAX_REPORTS)):
        item = raw_json.members(raw)
        report_id, task = _text(item, "id", number), _text(item, "task", number)
        lease, kind = _text(item, "lease", number), _text(item, "kind", number)
        if not 0 < len(report_id) <= MAX_ID_CHARS:
            raise ValueError(f"items.{number}.id: must have 1 to {MAX_ID_CHARS} characters")
        if not is_task_id(task) or not _is_word(lease):
            raise ValueError(f"items.{number}: task or lease is none")
        if kind not in {"result", "event"}:
            raise ValueError(f"items.{number}.kind: must be result or event")
        payload = item.get("payload", b"null")
        reports.append(ReportIn(report_id, task, lease, kind == "result", payload))
    return reports


def _text(item: Mapping[str, bytes], key: str, number: int) -> str:
    raw = item.get(key, b"")
    if not raw.startswith(b'"') or len(raw) > 8 * MAX_ID_CHARS:
        raise ValueError(f"items.{number}.{key}: must be a short string")
    text: str = json.loads(raw)
    return text


def read_result(payload: bytes) -> Ending | None:
    """Read the payload of a result: the task as the agent shows it; None when it is no end of one."""
    try:
        document = raw_json.members(payload)
        state = TaskState(raw_json.value(document.get("state")))
        if state not in FINAL_STATES:
            return None
        progress = _read_progress(_small(document, "progress"))
        if state is TaskState.COMPLETED:
            return Ending(state, document.get("output", b"null"), progress=progress)
        return Ending(state, failure=_read_failure(_small(document, "error")), progress=progress)
    except (JsonTextError, ValueError, TypeError):
        return None


def _small(document: Mapping[str, bytes], key: str) -> Any:
    raw = document.get(key)
    return None if raw is None or len(raw) > MAX_SMALL_BYTES else raw_json.value(raw)


def _read_failure(error: Any) -> TaskFailure:
    if not isinstance(error, dict):
        return TaskFailure("failed", "the agent did not say why")
    code, message = error.get("code"), error.get("message")
    return TaskFailure(
        code[:MAX_CODE_CHARS] if isinstance(code, str) else "failed",
        message[:MAX_MESSAGE_CHARS] if isinstance(message, str) else "the agent did not say why",
        retryable=error.get("retryable") is True,
        details=error.get("details"),
    )


def _read_progress(progress: Any) -> dict[str, Any] | None:
    if not isinstance(progress, dict):
        return None
    fraction, message = progress.get("fraction"), progress.get("message")
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        fraction = None
    return {
        "fraction": fraction,
        "message": message[:MAX_MESSAGE_CHARS] if isinstance(message, str) else None,
    }


def read_event(payload: bytes) -> EventIn | None:
    """Read the payload of an event; None when it is none."""
    try:
        found = raw_json.members(payload)
        number, kind = raw_json.value(found.get("id")), raw_json.value(found.get("event"))
        data = found.get("data", b"null")
        if isinstance(number, str) and number.isascii() and number.isdecimal():
            number = int(number[:17])
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        if not 0 <= number < MAX_EVENT_ID or not isinstance(kind, str) or not _is_kind(kind):
            return None
        if kind == "progress":
            progress = _read_progress(raw_json.value(data) if len(data) <= MAX_SMALL_BYTES else 0)
            if progress is None:
                return None
            data = json.dumps(progress, separators=(",", ":")).encode()
        return EventIn(number, kind, data)
    except JsonTextError:
        return None

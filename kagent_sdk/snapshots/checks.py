"""What a row must be to come into an agent's database. Pure.

The same rules hold when a snapshot is made, so that none is made that could not be restored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kagent_sdk.protocol.envelope import MAX_CAPABILITY_CHARS, MAX_METADATA_BYTES
from kagent_sdk.protocol.headers import is_task_id
from kagent_sdk.protocol.json_text import is_json
from kagent_sdk.protocol.link import MAX_HOPS, WORD_PATTERN
from kagent_sdk.protocol.state import MAX_VALUE_BYTES, is_key
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.snapshots.rows import Column, RowError, Value

OPEN_STATES = frozenset({TaskState.SUBMITTED, TaskState.WORKING, TaskState.INPUT_REQUIRED})
EVENT_KINDS = frozenset({"state", "progress", "event"})
MAX_ATTEMPTS = 1_000_000
MAX_TEXT_CHARS = 4096
MAX_DOCUMENT_CHARS = 4 * 1024 * 1024

_is_lease = re.compile(WORD_PATTERN.removesuffix("$"), re.ASCII).fullmatch

TABLES = ("manifests", "tasks", "events")
"""Whose rows stand in ``tasks.jsonl``."""


class StateCheck:
    """Takes the rows of the state one by one, in the order of their keys.

    Attributes:
        count, size_bytes, max_version: of the rows so far.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        self._before = b""
        self.count = self.size_bytes = self.max_version = 0

    def take(self, values: Sequence[Value]) -> None:
        """Check a row.

        Raises:
            RowError: it can be no row of the state.
        """
        row = dict(zip(self._names, values, strict=True))
        key, version, value = row["key"], row["version"], row["value"]
        if not isinstance(key, str) or not is_key(key):
            raise RowError("has no key that the state could have")
        raw_key = key.encode()
        if raw_key <= self._before:
            raise RowError("has a key that comes twice or out of order")
        if not isinstance(version, int) or version < 1:
            raise RowError("has a version below 1")
        if not isinstance(value, bytes) or len(value) > MAX_VALUE_BYTES or not is_json(value):
            raise RowError(f"has a value that is no JSON of at most {MAX_VALUE_BYTES} bytes")
        _check_number(row, "expires_at")
        self._before = raw_key
        self.count += 1
        self.size_bytes += len(raw_key) + len(value)
        self.max_version = max(self.max_version, version)


class TasksCheck:
    """Takes the rows of open tasks: what a task refers to comes before it, its events behind it.

    Attributes:
        count: tasks so far.
    """

    def __init__(self, columns: Mapping[str, Sequence[Column]]) -> None:
        self._names = {table: [column.name for column in columns[table]] for table in columns}
        self._manifests: set[Value] = set()
        self._ids: set[Value] = set()
        self._sequence = 0
        self._event_id = 0
        self.count = 0

    def take(self, table: str, values: Sequence[Value]) -> None:
        """Check a row.

        Raises:
            RowError: it can be no row of an open task.
        """
        row = dict(zip(self._names[table], values, strict=True))
        match table:
            case "manifests":
                self._take_manifest(row)
            case "tasks":
                self._take_task(row)
            case _:
                self._take_event(row)

    def _take_manifest(self, row: Mapping[str, Value]) -> None:
        document = row["document"]
        if row["id"] in self._manifests:
            raise RowError("has the id of another capability")
        if not isinstance(document, str) or len(document) > MAX_DOCUMENT_CHARS:
            raise RowError("has a capability that is too large")
        if not document.startswith("{") or not is_json(document.encode()):
            raise RowError("has a capability that is no JSON object")
        self._manifests.add(row["id"])

    def _take_task(self, row: Mapping[str, Value]) -> None:
        task_id, sequence = row["id"], row["seq"]
        if not isinstance(task_id, str) or not is_task_id(task_id) or task_id in self._ids:
            raise RowError("has an id that no task can have, or another has")
        if not isinstance(sequence, int) or sequence <= self._sequence:
            raise RowError("is out of order")
        if row["state"] not in OPEN_STATES or row["finished_at"] is not None:
            raise RowError("is not open")
        if row["manifest"] not in self._manifests:
            raise RowError("has a capability that is not there")
        _check_texts(row)
        _check_numbers(row)
        _check_documents(row)
        self._ids.add(task_id)
        self._sequence, self._event_id = sequence, 0
        self.count += 1

    def _take_event(self, row: Mapping[str, Value]) -> None:
        event_id, data = row["id"], row["data"]
        if row["task"] != self._sequence or not self.count:
            raise RowError("belongs to no task before it")
        if not isinstance(event_id, int) or event_id <= self._event_id:
            raise RowError("is out of order")
        if row["kind"] not in EVENT_KINDS or not isinstance(data, bytes) or not is_json(data):
            raise RowError("is no event of an open task")
        _check_count(row, "attempt")
        self._event_id = event_id


def _check_texts(row: Mapping[str, Value]) -> None:
    capability = row["capability"]
    if not isinstance(capability, str) or not 0 < len(capability) <= MAX_CAPABILITY_CHARS:
        raise RowError("has a capability without a name")
    for name in ("trace_id", "traceparent", "callback_url"):
        text = row.get(name)
        if isinstance(text, str) and (len(text) > MAX_TEXT_CHARS or not text.isprintable()):
            raise RowError(f"has an odd value in the column {name}")
    lease, hops = row.get("lease"), row.get("hops")
    if lease is not None and not (isinstance(lease, str) and _is_lease(lease)):
        raise RowError("has an odd value in the column lease")
    if hops is not None and not (isinstance(hops, int) and 0 <= hops <= MAX_HOPS):
        raise RowError("has an odd value in the column hops")


def _check_numbers(row: Mapping[str, Value]) -> None:
    _check_count(row, "attempt")
    _check_count(row, "conflicts")
    size = row["size_bytes"]
    if not isinstance(size, int) or size < 0:
        raise RowError("has an odd value in the column size_bytes")
    for name in ("created_at", "started_at", "deadline_at", "timeout_s"):
        _check_number(row, name)


def _check_documents(row: Mapping[str, Value]) -> None:
    metadata, progress = row["metadata"], row["progress"]
    if row["output"] is not None or row["failure"] is not None:
        raise RowError("has an end, and is open")
    if (
        not isinstance(metadata, bytes)
        or len(metadata) > MAX_METADATA_BYTES
        or metadata.lstrip()[:1] != b"{"
        or not is_json(metadata)
    ):
        raise RowError("has metadata that is no JSON object")
    if progress is not None and not _is_progress(progress):
        raise RowError("has an odd value in the column progress")


def _is_progress(text: Value) -> bool:
    if not isinstance(text, str) or len(text) > MAX_DOCUMENT_CHARS or not is_json(text.encode()):
        return False
    document: Any = json.loads(text)
    if not isinstance(document, list) or len(document) != 2:
        return False
    fraction, message = document
    is_share = fraction is None or (type(fraction) in (int, float) and 0 <= fraction <= 1)
    return is_share and (message is None or isinstance(message, str))


def _check_count(row: Mapping[str, Value], name: str) -> None:
    count = row[name]
    if not isinstance(count, int) or not 0 <= count <= MAX_ATTEMPTS:
        raise RowError(f"has an odd value in the column {name}")


def _check_number(row: Mapping[str, Value], name: str) -> None:
    number = row[name]
    if number is not None and not (
        isinstance(number, int | float) and math.isfinite(number) and 0 <= number <= 1e12
    ):
        raise RowError(f"has an odd value in the column {name}")

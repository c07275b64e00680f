"""Tasks and their events as rows: plain functions of a connection, run in the storage's thread.

What is written is given as values, not as a record: the event loop goes on with the record while
these wait for their turn.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from kagent_sdk.journal.events import Event
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.tasks import TaskFailure, TaskState
from kagent_sdk.storage.bulk import Bulk

MAX_PRUNED = 1000
"""Tasks that one operation removes: the ones that wait behind it must not wait for long."""

_COLUMNS = (
    "seq, id, manifest, capability, state, attempt, conflicts, created_at, started_at, "
    "finished_at, deadline_at, timeout_s, size_bytes, trace_id, traceparent, "
    "callback_url, lease, hops, failure, progress, metadata, output, input"
)


class StoredTask(NamedTuple):
    """A row of ``tasks``, in the order of its columns."""

    seq: int
    id: str
    manifest: str
    capability: str
    state: str
    attempt: int
    conflicts: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    deadline_at: float | None
    timeout_s: float | None
    size_bytes: int
    trace_id: str | None
    traceparent: str
    callback_url: str | None
    lease: str | None
    hops: int | None
    failure: str | None
    progress: str | None
    metadata: bytes
    output: bytes | None
    input: bytes


class Totals(NamedTuple):
    """What the journal holds: finished tasks, their bytes, and the highest sequence number."""

    finished: int
    finished_bytes: int
    last_sequence: int


class NewTask(NamedTuple):
    """A row of ``tasks`` for a task that has not ended, without what it cannot have."""

    seq: int
    id: str
    manifest: str
    capability: str
    state: str
    attempt: int
    conflicts: int
    created_at: float
    started_at: float | None
    deadline_at: float | None
    timeout_s: float | None
    size_bytes: int
    trace_id: str | None
    traceparent: str
    callback_url: str | None
    lease: str | None
    hops: int
    metadata: bytes
    input: bytes


def pack(record: TaskRecord, manifest: str) -> NewTask:
    """Return the row of a task that is new."""
    return NewTask(
        record.sequence,
        record.id,
        manifest,
        record.capability.name,
        record.state.value,
        record.attempt,
        record.conflicts,
        record.created_at,
        record.started_at,
        record.expires_at,
        None if record.expires_at is None else record.timeout_s,
        record.size_bytes,
        record.trace_id,
        record.traceparent,
        record.callback_url,
        record.lease,
        record.hops,
        record.metadata,
        record.input,
    )


def unpack(row: StoredTask, record: TaskRecord) -> None:
    """Fill a record with what was stored of it; its events are another table's business."""
    record.kept = record.is_durable = True
    record.state = TaskState(row.state)
    record.attempt, record.conflicts = row.attempt, row.conflicts
    record.started_at, record.finished_at = row.started_at, row.finished_at
    record.expires_at = row.deadline_at
    if row.timeout_s is not None:
        record.timeout_s = row.timeout_s
    record.stored_bytes = row.size_bytes
    record.trace_id, record.traceparent = row.trace_id, row.traceparent
    record.callback_url = row.callback_url
    record.lease, record.hops = row.lease, row.hops or 0
    record.metadata, record.output = row.metadata, row.output
    if row.failure is not None:
        record.failure = TaskFailure(**json.loads(row.failure))
    if row.progress is not None:
        fraction, message = json.loads(row.progress)
        record.progress = fraction, message
    if record.is_finished:
        assert row.finished_at is not None
        record.ending = Ending(record.state, row.finished_at, record.output, record.failure)


INSERT = Bulk(
    f"INSERT INTO tasks ({', '.join(NewTask._fields)}) VALUES ",  # noqa: S608 - our own names
    len(NewTask._fields),
)
"""Keeps new tasks."""


def declare(connection: sqlite3.Connection, manifests: Iterable[tuple[str, str]]) -> None:
    """Keep capabilities, so that tasks can be read when the agent no longer has them."""
    connection.executemany("INSERT OR IGNORE INTO manifests VALUES (?, ?)", manifests)


def start(connection: sqlite3.Connection, seq: int, attempt: int, started_at: float | None) -> None:
    """Note that a worker is about to be given a task."""
    connection.execute(
        "UPDATE tasks SET state = 'working', attempt = ?, started_at = ? WHERE seq = ?",
        (attempt, started_at, seq),
    )


def requeue(connection: sqlite3.Connection, seq: int, attempt: int, conflicts: int) -> None:
    """Note that a task waits again."""
    connection.execute(
        "UPDATE tasks SET state = 'submitted', attempt = ?, conflicts = ? WHERE seq = ?",
        (attempt, conflicts, seq),
    )


class End(NamedTuple):
    """What the end of a task changes in its row, in the order of `FINISH`."""

    state: str
    finished_at: float
    attempt: int
    size_bytes: int
    failure: str | None
    progress: str | None
    output: bytes | None
    seq: int


def pack_end(record: TaskRecord, ending: Ending) -> End:
    """Return what the end of a task changes."""
    failure = ending.failure
    stored = None
    if failure is not None:
        stored = json.dumps({**failure.as_dict(), "status": failure.status})
    size = record.size_bytes + (0 if ending.output is None else len(ending.output))
    return End(
        ending.state.value,
        ending.at,
        record.attempt,
        size,
        stored,
        None if record.progress is None else json.dumps(record.progress),
        ending.output,
        record.sequence,
    )


FINISH = Bulk(
    "WITH ends(state, finished_at, attempt, size_bytes, failure, progress, output, seq) AS (VALUES ",
    len(End._fields),
    ") UPDATE tasks SET state = ends.state, finished_at = ends.finished_at, "
    "attempt = ends.attempt, size_bytes = ends.size_bytes, failure = ends.failure, "
    "progress = ends.progress, output = ends.output FROM ends WHERE tasks.seq = ends.seq",
    is_last=True,
)
"""Keeps the ends of tasks."""


def add_event(connection: sqlite3.Connection, seq: int, attempt: int, event: Event) -> None:
    """Keep an event of a task."""
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        (seq, event.id, attempt, event.kind, event.data),
    )


def trim_events(connection: sqlite3.Connection, seq: int, first_id: int) -> None:
    """Let go of a task's events before ``first_id``."""
    connection.execute("DELETE FROM events WHERE task = ? AND id < ?", (seq, first_id))


def read_events(connection: sqlite3.Connection, seq: int) -> list[Event]:
    """Return the events that are kept of a task, in order."""
    rows = connection.execute(
        "SELECT id, kind, data FROM events WHERE task = ? ORDER BY id", (seq,)
    )
    return [Event(*row) for row in rows]


def find(connection: sqlite3.Connection, task_id: str) -> StoredTask | None:
    """Return a task."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM tasks WHERE id = ?", (task_id,)).fetchone()  # noqa: S608
    return None if row is None else StoredTask(*row)


def read_open(connection: sqlite3.Connection) -> list[StoredTask]:
    """Return the tasks that have not ended, the oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM tasks WHERE finished_at IS NULL ORDER BY seq"  # noqa: S608
    )
    return [StoredTask(*row) for row in rows]


def read_manifest(connection: sqlite3.Connection, manifest_id: str) -> str | None:
    """Return a capability's document."""
    row = connection.execute(
        "SELECT document FROM manifests WHERE id = ?", (manifest_id,)
    ).fetchone()
    return None if row is None else str(row[0])


def read_page(
    connection: sqlite3.Connection,
    *,
    before: int | None,
    state: TaskState | None,
    capability: str | None,
    limit: int,
) -> list[StoredTask]:
    """Return tasks without input and output, the newest first.

    Args:
        connection: of the database.
        before: only tasks with a lower sequence number.
        state: only tasks in it.
        capability: only tasks of it.
        limit: how many at most.
    """
    conditions: list[str] = ["1"]
    values: list[Any] = []
    for condition, value in (
        ("seq < ?", before),
        ("state = ?", state),
        ("capability = ?", capability),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    columns = _COLUMNS.replace("output, input", "NULL, x''")
    rows = connection.execute(
        f"SELECT {columns} FROM tasks WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",  # noqa: S608
        [*values, limit],
    )
    return [StoredTask(*row) for row in rows]


def forget(connection: sqlite3.Connection, task_id: str) -> None:
    """Remove a finished task with its events."""
    connection.execute(
        "DELETE FROM events WHERE task = (SELECT seq FROM tasks WHERE id = ?)", (task_id,)
    )
    connection.execute("DELETE FROM tasks WHERE id = ?", (task_id,))


def find_sequence(connection: sqlite3.Connection, task_id: str) -> int | None:
    """Return the sequence number of a task."""
    row = connection.execute("SELECT seq FROM tasks WHERE id = ?", (task_id,)).fetchone()
    return None if row is None else int(row[0])


def read_totals(connection: sqlite3.Connection) -> Totals:
    """Return what the journal holds."""
    finished, size = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM tasks WHERE finished_at IS NOT NULL"
    ).fetchone()
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
    return Totals(finished, size, last)


def prune(
    connection: sqlite3.Connection, *, finished_before: float, count: int, size_bytes: int
) -> tuple[list[str], int]:
    """Remove finished tasks, the oldest first, up to `MAX_PRUNED`.

    Args:
        connection: of the database.
        finished_before: seconds since the epoch; tasks that ended by then go anyway.
        count: how many of the others go,
        size_bytes: or how many bytes of them, whichever is more.

    Returns:
        The ids of the removed tasks, and their bytes.
    """
    rows = connection.execute(
        "SELECT seq, id, finished_at, size_bytes FROM tasks WHERE finished_at IS NOT NULL "
        "ORDER BY finished_at LIMIT ?",
        (MAX_PRUNED,),
    ).fetchall()
    gone: list[str] = []
    freed = 0
    for seq, task_id, finished_at, size in rows:
        if finished_at > finished_before and len(gone) >= count and freed >= size_bytes:
            break
        connection.execute("DELETE FROM events WHERE task = ?", (seq,))
        connection.execute("DELETE FROM tasks WHERE seq = ?", (seq,))
        gone.append(task_id)
        freed += size
    return gone, freed

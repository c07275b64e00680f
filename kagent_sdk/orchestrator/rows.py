"""Tasks and their events as rows: plain functions of a connection, run in the storage's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from kagent_sdk.orchestrator.task import RECORD_OVERHEAD_BYTES, Ending, Target, TaskRecord
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

MAX_PRUNED = 1000
"""Tasks that one operation removes: the ones that wait behind it must not wait for long."""

_COLUMNS = (
    "seq, id, capability, wanted, agent, instance, lease, state, attempt, hops, is_idempotent, "
    "max_attempts, is_canceling, created_at, started_at, finished_at, deadline_at, timeout_s, "
    "size_bytes, away_at, trace_id, traceparent, labels, failure, progress, metadata, output, input"
)
_SUMMARY = _COLUMNS.replace("output, input", "NULL, x''")

_INSERT = (
    "INSERT INTO tasks (seq, id, capability, wanted, state, attempt, hops, is_idempotent, "
    "max_attempts, is_canceling, created_at, deadline_at, timeout_s, size_bytes, trace_id, "
    "traceparent, labels, metadata, input) VALUES (?,?,?,?,?,0,?,0,1,0,?,?,?,?,?,?,?,?,?)"
)


class EventRow(NamedTuple):
    """One event of a task's stream. ``data`` is raw JSON."""

    id: int
    kind: str
    data: bytes


class Stream(NamedTuple):
    """What is kept of an open task's events."""

    task: int
    first: int
    last: int
    size_bytes: int
    last_agent_event: int


class Totals(NamedTuple):
    """What the database holds: ended tasks, their bytes, and the highest sequence number.

    ``served_s``: the time of `kagent_sdk.orchestrator.absences`, as it was noted last.
    """

    ended: int
    ended_bytes: int
    last_sequence: int
    served_s: float


class GoneError(Exception):
    """The task is not there, or has ended."""


def insert(connection: sqlite3.Connection, values: Sequence[Any]) -> None:
    """Keep a new task; ``values`` as `pack` returns them."""
    connection.execute(_INSERT, values)


def pack(record: TaskRecord) -> tuple[Any, ...]:
    """Return what is written of a task that is new."""
    target = record.target
    return (
        record.seq,
        record.id,
        target.capability,
        target.agent,
        record.state.value,
        record.hops,
        record.created_at,
        record.deadline_at,
        record.timeout_s,
        record.size_bytes,
        record.trace_id,
        record.traceparent,
        json.dumps(dict(target.labels)),
        record.metadata,
        record.input,
    )


def offer(connection: sqlite3.Connection, seq: int, values: Sequence[Any]) -> None:
    """Give a task a lease; ``values``: agent, instance, lease, attempt, is_idempotent, max_attempts.

    Raises:
        GoneError: there is no such open task.
    """
    changed = connection.execute(
        "UPDATE tasks SET agent = ?, instance = ?, lease = ?, attempt = ?, is_idempotent = ?, "
        "max_attempts = ?, away_at = NULL WHERE seq = ? AND finished_at IS NULL",
        (*values, seq),
    ).rowcount
    if not changed:
        raise GoneError


def take_back(connection: sqlite3.Connection, seq: int, attempt: int) -> None:
    """Note that nobody has the task any more."""
    connection.execute(
        "UPDATE tasks SET instance = NULL, lease = NULL, away_at = NULL, attempt = ?, "
        "state = 'submitted' WHERE seq = ? AND finished_at IS NULL",
        (attempt, seq),
    )


def note_away(
    connection: sqlite3.Connection, seq: int, away_at: float | None, served_s: float
) -> None:
    """Note since when the agent of a task is waited for; None: it is there."""
    connection.execute(
        "UPDATE tasks SET away_at = ? WHERE seq = ? AND finished_at IS NULL", (away_at, seq)
    )
    if away_at is not None:
        note_served(connection, served_s)


def note_all_away(connection: sqlite3.Connection, served_s: float) -> None:
    """Note that the agents of all open tasks that have a lease are waited for, from now on or before."""
    connection.execute(
        "UPDATE tasks SET away_at = ? "
        "WHERE finished_at IS NULL AND lease IS NOT NULL AND away_at IS NULL",
        (served_s,),
    )
    note_served(connection, served_s)


def note_served(connection: sqlite3.Connection, served_s: float) -> None:
    """Note what time it is on the clock of absences; it never goes back."""
    connection.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'served_s'", (served_s,))


def start(connection: sqlite3.Connection, seq: int, started_at: float | None) -> None:
    """Note that an agent has the task."""
    connection.execute(
        "UPDATE tasks SET state = 'working', started_at = ? WHERE seq = ? AND finished_at IS NULL",
        (started_at, seq),
    )


def ask_to_cancel(connection: sqlite3.Connection, seq: int) -> None:
    """Note that the caller wants no more of it."""
    connection.execute("UPDATE tasks SET is_canceling = 1 WHERE seq = ?", (seq,))


def end(
    connection: sqlite3.Connection,
    seq: int,
    ending: Ending,
    *,
    started_at: float | None,
    finished_at: float,
    size_bytes: int,
) -> bool:
    """Write the end of a task, once; tell whether it was this one."""
    state, output, failure, progress = ending
    changed = connection.execute(
        "UPDATE tasks SET state = ?, started_at = ?, finished_at = ?, size_bytes = ?, failure = ?, "
        "progress = coalesce(?, progress), output = ? WHERE seq = ? AND finished_at IS NULL",
        (
            state.value,
            started_at,
            finished_at,
            size_bytes,
            None if failure is None else json.dumps(failure.as_dict()),
            None if progress is None else json.dumps(progress),
            output,
            seq,
        ),
    ).rowcount
    return bool(changed)


def add_event(
    connection: sqlite3.Connection,
    seq: int,
    event: EventRow,
    *,
    attempt: int,
    agent_id: int,
    first: int,
) -> None:
    """Keep an event, and forget those before ``first``."""
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
        (seq, event.id, attempt, agent_id, event.kind, event.data),
    )
    connection.execute("DELETE FROM events WHERE task = ? AND id < ?", (seq, first))
    if event.kind == "progress":
        connection.execute(
            "UPDATE tasks SET progress = ? WHERE seq = ?", (event.data.decode(), seq)
        )


def read_events(
    connection: sqlite3.Connection, seq: int, after: int, *, limit: int, limit_bytes: int
) -> list[EventRow]:
    """Return events of a task in their order, one at least if there is any."""
    found: list[EventRow] = []
    size = 0
    for row in connection.execute(
        "SELECT id, kind, data FROM events WHERE task = ? AND id > ? ORDER BY id LIMIT ?",
        (seq, after, limit),
    ):
        event = EventRow(*row)
        size += len(event.data)
        if found and size > limit_bytes:
            break
        found.append(event)
    return found


def last_event_id(connection: sqlite3.Connection, seq: int) -> int:
    """Return the id of the last event that is kept of a task; 0 when there is none."""
    (last,) = connection.execute(
        "SELECT coalesce(max(id), 0) FROM events WHERE task = ?", (seq,)
    ).fetchone()
    return int(last)


def read_open(connection: sqlite3.Connection) -> tuple[list[TaskRecord], dict[int, Stream]]:
    """Return the tasks that have not ended, the oldest first, and their streams."""
    tasks = connection.execute(
        f"SELECT {_COLUMNS} FROM tasks WHERE finished_at IS NULL ORDER BY seq"  # noqa: S608
    )
    records = [unpack(row) for row in tasks]
    streams = connection.execute(
        "SELECT e.task, min(e.id), max(e.id), sum(length(e.data)), "
        "coalesce(max(CASE WHEN e.attempt = t.attempt THEN e.agent_id END), 0) "
        "FROM tasks t JOIN events e ON e.task = t.seq WHERE t.finished_at IS NULL GROUP BY e.task"
    )
    return records, {row[0]: Stream(*row) for row in streams}


def find(connection: sqlite3.Connection, task_id: str) -> TaskRecord | None:
    """Return a task."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM tasks WHERE id = ?",  # noqa: S608 - our own names
        (task_id,),
    ).fetchone()
    return None if row is None else unpack(row)


def is_kept(connection: sqlite3.Connection, task_id: str) -> bool:
    """Whether there is a task of this id."""
    row = connection.execute("SELECT 1 FROM tasks WHERE id = ?", (task_id,)).fetchone()
    return row is not None


def read_page(
    connection: sqlite3.Connection,
    *,
    after: str | None,
    limit: int,
    state: str | None = None,
    capability: str | None = None,
    agent: str | None = None,
) -> list[TaskRecord]:
    """Return tasks without input and output, the newest first; ``after`` is the id of one."""
    conditions: list[str] = ["1"]
    values: list[Any] = []
    for condition, value in (
        ("seq < (SELECT seq FROM tasks WHERE id = ?)", after),
        ("state = ?", state),
        ("capability = ?", capability),
        ("coalesce(agent, wanted) = ?", agent),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    rows = connection.execute(
        f"SELECT {_SUMMARY} FROM tasks WHERE {' AND '.join(conditions)} "  # noqa: S608
        "ORDER BY seq DESC LIMIT ?",
        [*values, limit],
    )
    return [unpack(row) for row in rows]


def read_totals(connection: sqlite3.Connection) -> Totals:
    """Return what the database holds."""
    ended, size = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM tasks WHERE finished_at IS NOT NULL"
    ).fetchone()
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
    (served_s,) = connection.execute("SELECT value FROM meta WHERE name = 'served_s'").fetchone()
    return Totals(ended, size, last, served_s)


def prune(
    connection: sqlite3.Connection, *, ended_before: float, count: int, size_bytes: int
) -> tuple[int, int]:
    """Remove ended tasks, the oldest first, up to `MAX_PRUNED`.

    Args:
        connection: of the database.
        ended_before: seconds since the epoch; tasks that ended by then go anyway.
        count: how many of the others go,
        size_bytes: or how many bytes of them, whichever is more.

    Returns:
        How many were removed, and their bytes.
    """
    rows = connection.execute(
        "SELECT seq, finished_at, size_bytes FROM tasks WHERE finished_at IS NOT NULL "
        "ORDER BY finished_at LIMIT ?",
        (MAX_PRUNED,),
    ).fetchall()
    gone = freed = 0
    for seq, finished_at, size in rows:
        if finished_at > ended_before and gone >= count and freed >= size_bytes:
            break
        connection.execute("DELETE FROM events WHERE task = ?", (seq,))
        connection.execute("DELETE FROM tasks WHERE seq = ?", (seq,))
        gone += 1
        freed += size
    return gone, freed


def unpack(row: Sequence[Any]) -> TaskRecord:
    """Return the record of a row, whose columns are in the order of the table."""
    (seq, task_id, capability, wanted, agent, instance, lease, state, attempt, hops) = row[:10]
    (is_idempotent, max_attempts, is_canceling, created_at, started_at, finished_at) = row[10:16]
    (deadline_at, timeout_s, size_bytes, away_at, trace_id, traceparent, labels) = row[16:23]
    (failure, progress, metadata, output, payload) = row[23:]
    pairs = tuple(sorted(json.loads(labels).items()))
    return TaskRecord(
        seq,
        task_id,
        Target(wanted, capability, pairs),
        payload,
        metadata,
        created_at,
        deadline_at,
        timeout_s,
        traceparent,
        trace_id,
        hops,
        TaskState(state),
        attempt,
        agent,
        instance,
        lease,
        bool(is_idempotent),
        max_attempts,
        bool(is_canceling),
        started_at,
        finished_at,
        None if failure is None else TaskFailure(**json.loads(failure)),
        None if progress is None else json.loads(progress),
        output,
        size_bytes,
        away_at,
    )


def size_of(record: TaskRecord, output: bytes | None = None, event_bytes: int = 0) -> int:
    """Return roughly what a task takes on disk."""
    size = RECORD_OVERHEAD_BYTES + len(record.input) + len(record.metadata) + event_bytes
    return size + (0 if output is None else len(output))

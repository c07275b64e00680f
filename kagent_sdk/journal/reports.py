"""What the orchestrator is told of its tasks: messages of the outbox's channel ``link``.

The destination of a report is the lease of its task. Reports leave in the order in which they were
added, whatever their task, and again and again until the orchestrator has answered each; so they have
no ``due_at``. Functions of a connection run in the storage's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from kagent_sdk.journal.events import Event
from kagent_sdk.journal.outbox import Kind, Message, change_count
from kagent_sdk.journal.record import Ending, TaskRecord

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""Of all reports that wait. Events that would come on top are dropped: whoever follows a task sees a
gap, and its result comes all the same."""

MAX_RESULT_BYTES = 1024 * 1024 * 1024
"""Results that would come on top are dropped, for the disk is not to fill up. The agent takes no
tasks of the link long before that, see `kagent_sdk.host.link_reports`."""

LANE = "link"
SETTLED_AT_A_TIME = 500
"""Ids in one statement, far below the limit of variables (32,766, sqlite.org/limits.html)."""

_COLUMNS = "id, channel, lane, task, kind, destination, payload, created_at, attempts"


class HeldResult(NamedTuple):
    """A result that was not answered yet: of which task, by which lease."""

    id: str
    task: str
    lease: str


def report_result(record: TaskRecord, ending: Ending) -> Message | None:
    """Return the message that tells of a task's end; None for one that nobody leases."""
    if record.lease is None:
        return None
    payload = record.document(ending=ending)
    return _message(record, record.lease, "result", 0, payload, ending.at)


def report_event(record: TaskRecord, event: Event, at_s: float) -> Message | None:
    """Return the message that tells of an event; None for a task that nobody leases."""
    if record.lease is None:
        return None
    payload = b'{"id":%d,"event":"%b","data":%b}' % (event.id, event.kind.encode(), event.data)
    return _message(record, record.lease, "event", event.id, payload, at_s)


def _message(
    record: TaskRecord, lease: str, kind: Kind, number: int, payload: bytes, at_s: float
) -> Message:
    # The lease is part of it: one result may be told twice, to whoever leases the task by then.
    name = f"{record.id}\n{record.created_at!r}\n{kind}\n{number}\n{lease}".encode()
    report_id = f"rep_{blake2b(name, digest_size=16, person=b'report').hexdigest()}"
    return Message(report_id, "link", LANE, record.id, kind, lease, payload, at_s)


def add(connection: sqlite3.Connection, message: Message) -> bool:
    """Take a report; False when it is there already, or when too much waits: then it is counted.

    It runs in the transaction that makes the report true.
    """
    if not fits(message, pending_bytes(connection)):
        change_count(connection, "link", "dropped", 1)
        return False
    cursor = connection.execute(
        "INSERT INTO outbox (id, channel, lane, task, kind, destination, created_at, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            message.id,
            message.channel,
            message.lane,
            message.task,
            message.kind,
            message.destination,
            message.created_at,
            message.payload,
        ),
    )
    if cursor.rowcount != 1:
        return False
    change_count(connection, "link", "pending", 1)
    change_count(connection, "link", "bytes", len(message.payload))
    return True


def fits(message: Message, waiting_bytes: int) -> bool:
    """Whether a report is kept on top of so many bytes that wait; if not it is dropped."""
    limit = MAX_RESULT_BYTES if message.kind == "result" else MAX_EVENT_BYTES
    return waiting_bytes + len(message.payload) <= limit


def first(connection: sqlite3.Connection, limit: int, limit_bytes: int) -> list[Message]:
    """Return the oldest reports: one at least, if there is any, however large it is."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM outbox WHERE channel = 'link' ORDER BY number LIMIT ?",  # noqa: S608 - our own names
        (limit,),
    )
    chosen: list[Message] = []
    size = 0
    for row in rows:
        message = Message(*row)
        size += len(message.payload)
        if chosen and size > limit_bytes:
            break
        chosen.append(message)
    return chosen


def settle(connection: sqlite3.Connection, ids: Collection[str]) -> None:
    """Let go of reports that were answered; those that are not there make no difference."""
    rest = iter(ids)
    while some := tuple(islice(rest, SETTLED_AT_A_TIME)):
        marks = ",".join("?" * len(some))
        _remove(connection, f"id IN ({marks})", some)


def set_lease(
    connection: sqlite3.Connection, task: str, lease: str | None, result: Message | None
) -> None:
    """Let a task have another lease, or none: what waits of the one before is not told any more.

    Args:
        connection: of the database.
        task: its id.
        lease: the present one.
        result: what tells of the end under it, for a task that has ended.
    """
    connection.execute("UPDATE tasks SET lease = ? WHERE id = ?", (lease, task))
    _remove(connection, "task = ? AND destination IS NOT ?", (task, lease))
    if result is not None and _has_ended(connection, task):
        add(connection, result)


def _has_ended(connection: sqlite3.Connection, task: str) -> bool:
    # Its end is undone when others have changed the state meanwhile; one that is not here is in memory.
    row = connection.execute("SELECT finished_at FROM tasks WHERE id = ?", (task,)).fetchone()
    return row is None or row[0] is not None


def forget_lease(connection: sqlite3.Connection, task: str, lease: str) -> None:
    """Let nothing more be told under a lease."""
    connection.execute("UPDATE tasks SET lease = NULL WHERE id = ? AND lease = ?", (task, lease))
    _remove(connection, "task = ? AND destination = ?", (task, lease))


def _remove(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> None:
    sizes = connection.execute(
        f"DELETE FROM outbox WHERE channel = 'link' AND {condition} RETURNING length(payload)",  # noqa: S608 - as above
        values,
    ).fetchall()
    if sizes:
        change_count(connection, "link", "pending", -len(sizes))
        change_count(connection, "link", "bytes", -sum(size for (size,) in sizes))


def read_results(connection: sqlite3.Connection, limit: int) -> list[HeldResult]:
    """Return the results that wait to be told, the oldest first."""
    rows = connection.execute(
        "SELECT id, task, destination FROM outbox WHERE channel = 'link' AND kind = 'result' "
        "ORDER BY number LIMIT ?",
        (limit,),
    )
    return [HeldResult(*row) for row in rows]


def pending_bytes(connection: sqlite3.Connection) -> int:
    """Return how much waits to be told."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'outbox_link_bytes'").fetchone()
    return 0 if row is None else int(row[0])

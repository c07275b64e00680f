"""The outbox: messages that must reach somebody outside, kept until that somebody has them.

All functions are plain ones of a connection, for `kagent_sdk.storage.thread.Storage`: `add` runs in
the transaction that makes the message true, such as the one that ends a task.

A channel is a way out (``webhook``); a lane of it is what shares a fate, such as a receiving host.
Of the messages of one task on a channel only the first is ever offered: the ones behind it come into
sight when it is acknowledged or dropped. That is what ``due_at`` being null means. The channel
``link`` has an order of its own (`kagent_sdk.journal.reports`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Literal

Channel = Literal["webhook", "link"]
Kind = Literal["result", "event", "state"]

MAX_REASON_CHARS = 300
"""Of the reason for a drop, which is kept."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        id: never changes, however often it is sent: the receiver tells repetitions by it.
        lane: what shares its fate.
        task: the id of the task that it is about.
        destination: where to; what that means is the channel's business.
        created_at: seconds since the epoch.
        attempts: how often sending it has failed.
    """

    id: str
    channel: Channel
    lane: str
    task: str
    kind: Kind
    destination: str
    payload: bytes
    created_at: float
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be sent now.

    Attributes:
        messages: in the order in which to send them.
        next_at: when the next message becomes due that is not due yet; None when there is none.
    """

    messages: list[Message]
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """What one channel holds.

    Attributes:
        pending: messages that are not acknowledged, those behind others included.
        pending_bytes: of their payloads.
        oldest_at: when the oldest of them was added; None when there is none.
        dropped: messages that were given up since the database was made.
        last_drop: why the last of those was.
    """

    pending: int
    pending_bytes: int
    oldest_at: float | None
    dropped: int
    last_drop: str | None


def message_id(task: str, created_at: float, kind: Kind, number: int = 0) -> str:
    """Return the id of a message: the same one, whenever it is asked for.

    Args:
        task: the task's id, which may come back once its retention is over.
        created_at: when that task was created: tells it from one that comes back.
        kind: what the message is about.
        number: tells the messages of one kind apart, such as an event's.
    """
    name = f"{task}\n{created_at!r}\n{kind}\n{number}".encode()
    return f"msg_{blake2b(name, digest_size=16, person=b'outbox').hexdigest()}"


def add(connection: sqlite3.Connection, message: Message) -> bool:
    """Take a message; False when one of its id is there already, which then stays as it is."""
    cursor = connection.execute(
        "INSERT INTO outbox (id, channel, lane, task, kind, destination, created_at, attempts, "
        "due_at, payload) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
        "CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE channel = ?2 AND task = ?4) "
        "THEN NULL ELSE ?7 END, ?9 WHERE true ON CONFLICT (id) DO NOTHING",
        (
            message.id,
            message.channel,
            message.lane,
            message.task,
            message.kind,
            message.destination,
            message.created_at,
            message.attempts,
            message.payload,
        ),
    )
    if cursor.rowcount != 1:
        return False
    change_count(connection, message.channel, "pending", 1)
    change_count(connection, message.channel, "bytes", len(message.payload))
    return True


def due(
    connection: sqlite3.Connection,
    channel: Channel,
    now_s: float,
    limit: int,
    *,
    room: Callable[[str], int] | None = None,
    skip: Collection[str] = (),
) -> Due:
    """Return the messages to send now: from each lane in turn, in each the longest due one first.

    The cost grows with the lanes and the limit, not with what is pending.

    Args:
        connection: to read from.
        channel: the way out.
        now_s: seconds since the epoch.
        limit: how many at the most.
        room: how many of a lane at the most; ``limit`` for each when it is None.
        skip: ids that are under way.
    """
    chosen: list[tuple[int, float, int]] = []
    next_at: float | None = None
    for lane in _iter_lanes(connection, channel):
        places = limit if room is None else min(limit, room(lane))
        for turn, (due_at, number) in enumerate(
            islice(_iter_due(connection, channel, lane, now_s, skip), max(places, 0))
        ):
            chosen.append((turn, due_at, number))
        (later,) = connection.execute(
            "SELECT min(due_at) FROM outbox WHERE channel = ? AND lane = ? AND due_at > ?",
            (channel, lane, now_s),
        ).fetchone()
        if later is not None and (next_at is None or later < next_at):
            next_at = later
    chosen.sort()
    return Due([_read(connection, number) for _, _, number in chosen[:limit]], next_at)


def _iter_lanes(connection: sqlite3.Connection, channel: Channel) -> Iterator[str]:
    """Yield the lanes that have a message to offer, by one step down the index for each."""
    row = connection.execute(
        "SELECT lane FROM outbox WHERE channel = ? AND due_at IS NOT NULL ORDER BY lane LIMIT 1",
        (channel,),
    ).fetchone()
    while row is not None:
        yield row[0]
        row = connection.execute(
            "SELECT lane FROM outbox WHERE channel = ? AND lane > ? AND due_at IS NOT NULL "
            "ORDER BY lane LIMIT 1",
            (channel, row[0]),
        ).fetchone()


def _iter_due(
    connection: sqlite3.Connection, channel: Channel, lane: str, now_s: float, skip: Collection[str]
) -> Iterator[tuple[float, int]]:
    rows = connection.execute(
        "SELECT due_at, number, id FROM outbox WHERE channel = ? AND lane = ? AND due_at <= ? "
        "ORDER BY due_at, number",
        (channel, lane, now_s),
    )
    for due_at, number, message_id in rows:
        if message_id not in skip:
            yield due_at, number


def _read(connection: sqlite3.Connection, number: int) -> Message:
    row = connection.execute(
        "SELECT id, channel, lane, task, kind, destination, payload, created_at, attempts "
        "FROM outbox WHERE number = ?",
        (number,),
    ).fetchone()
    return Message(*row)


def acknowledge(connection: sqlite3.Connection, message_id: str) -> bool:
    """Let go of a message that has arrived, and tell whether it was there: once for each."""
    return _remove(connection, message_id) is not None


def drop(connection: sqlite3.Connection, message_id: str, reason: str) -> bool:
    """Give up a message, and tell whether it was there; how many were, and why, stays on record."""
    channel = _remove(connection, message_id)
    if channel is None:
        return False
    change_count(connection, channel, "dropped", 1)
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (f"outbox_{channel}_last_drop", reason[:MAX_REASON_CHARS]),
    )
    return True


def _remove(connection: sqlite3.Connection, message_id: str) -> str | None:
    """Remove a message, let the next one of its task into sight, and return the channel."""
    row: tuple[str, str, int] | None = connection.execute(
        "SELECT channel, task, length(payload) FROM outbox WHERE id = ?", (message_id,)
    ).fetchone()
    if row is None:
        return None
    channel, task, size = row
    connection.execute("DELETE FROM outbox WHERE id = ?", (message_id,))
    connection.execute(
        "UPDATE outbox SET due_at = created_at WHERE due_at IS NULL AND number = "
        "(SELECT min(number) FROM outbox WHERE channel = ? AND task = ?)",
        (channel, task),
    )
    change_count(connection, channel, "pending", -1)
    change_count(connection, channel, "bytes", -size)
    return channel


def change_count(connection: sqlite3.Connection, channel: str, name: str, difference: int) -> None:
    """Change what is on record of a channel: ``pending``, ``bytes`` or ``dropped``."""
    connection.execute(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2",
        (f"outbox_{channel}_{name}", difference),
    )


def postpone(connection: sqlite3.Connection, message_id: str, due_at: float) -> bool:
    """Offer a message again later, count the attempt that failed, and tell whether it was there."""
    cursor = connection.execute(
        "UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE id = ? AND due_at IS NOT NULL",
        (due_at, message_id),
    )
    return cursor.rowcount == 1


def advance(connection: sqlite3.Connection, channel: Channel, latest_at: float) -> int:
    """Let no message be due later than that, and return how many were: the clock was set, say."""
    cursor = connection.execute(
        "UPDATE outbox SET due_at = ?2 WHERE number IN (SELECT number FROM outbox "
        "WHERE channel = ?1 AND due_at > ?2)",
        (channel, latest_at),
    )
    return cursor.rowcount


def stats(connection: sqlite3.Connection, channel: Channel) -> Stats:
    """Return what a channel holds; how much that is makes no difference."""
    (oldest_at,) = connection.execute(
        "SELECT min(created_at) FROM outbox WHERE channel = ?", (channel,)
    ).fetchone()
    return Stats(
        pending=int(_read_meta(connection, f"outbox_{channel}_pending") or 0),
        pending_bytes=int(_read_meta(connection, f"outbox_{channel}_bytes") or 0),
        oldest_at=oldest_at,
        dropped=int(_read_meta(connection, f"outbox_{channel}_dropped") or 0),
        last_drop=_read_meta(connection, f"outbox_{channel}_last_drop"),
    )


def _read_meta(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])

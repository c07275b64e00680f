"""The state in the database: read, list, change by transaction, forget what has expired.

Every function works on a connection that is in a transaction of the caller's, or begins none. A key
whose time is over is as absent everywhere, whether or not it was swept. All of them cost as much as
they touch, whatever the size of the state: its totals are rows of the table ``meta``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from kagent_sdk.errors import StateConflictError, StateQuotaError
from kagent_sdk.protocol.state import MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Item, Page, Transaction, Write

SWEEP_KEYS = 200
"""Expired keys that go in one transaction: few enough to hold nobody up."""

MAX_NAMED_KEYS = 100
"""Of a conflict: enough to find the cause."""

_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)

# Whole statements, and not put together: each is one that SQLite prepares once.
_GET = """
    SELECT version, expires_at, value FROM state
    WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)
"""
_VERSION = """
    SELECT version FROM state WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)
"""
_LIST_FROM = """
    SELECT key, version, expires_at, value FROM state
    WHERE key >= ? AND key < ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key
"""
_LIST_AFTER = """
    SELECT key, version, expires_at, value FROM state
    WHERE key > ? AND key < ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key
"""
_SCAN = """
    SELECT count(*), max(version) FROM state
    WHERE key >= ? AND key < ? AND (expires_at IS NULL OR expires_at > ?)
"""
_OLD = "SELECT length(value), expires_at FROM state WHERE key = ?"
_PUT = """
    INSERT INTO state (key, version, expires_at, value) VALUES (?, ?, ?, ?) ON CONFLICT (key)
    DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at, value = excluded.value
"""
_DELETE = "DELETE FROM state WHERE key = ?"
# The length of a text is in characters; that of a BLOB is read without its bytes.
_EXPIRED = """
    SELECT key, length(CAST(key AS BLOB)) + length(value) FROM state
    WHERE expires_at <= ? ORDER BY expires_at LIMIT ?
"""
_EXPIRED_BYTES = """
    SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) FROM state
    WHERE expires_at <= ?
"""
_TOTALS = """
    SELECT count(*), coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) FROM state
"""
_ADD = "UPDATE meta SET value = value + ? WHERE name = ?"


@dataclass(frozen=True, slots=True)
class Usage:
    """The state as a whole.

    Attributes:
        version: of its last change.
        keys: how many there are, those included that have expired and were not swept yet.
        used_bytes: of these keys (as UTF-8) and their values.
    """

    version: int = 0
    keys: int = 0
    used_bytes: int = 0


def usage(connection: sqlite3.Connection) -> Usage:
    """Return the totals."""
    rows: dict[str, int] = dict(
        connection.execute(
            "SELECT name, value FROM meta WHERE name IN ('state_version', 'state_keys', 'state_bytes')"
        )
    )
    return Usage(rows["state_version"], rows["state_keys"], rows["state_bytes"])


def get(connection: sqlite3.Connection, key: str, now_s: float) -> Item | None:
    """Return one key; None when it is not there.

    Args:
        connection: of the database.
        key: which.
        now_s: seconds since the epoch.
    """
    row = connection.execute(_GET, (key, now_s)).fetchone()
    return None if row is None else Item(key, row[0], row[2], row[1])


def page(
    connection: sqlite3.Connection, prefix: str, after: str | None, limit: int, now_s: float
) -> Page:
    """Return the keys that begin with a prefix, those after ``after``, in order of their UTF-8 bytes.

    As many as fit into ``limit``, `MAX_PAGE_ITEMS` and `MAX_PAGE_BYTES`, and one at least.
    """
    is_later = after is not None and after >= prefix
    rows = connection.execute(
        _LIST_AFTER if is_later else _LIST_FROM,
        (after if is_later else prefix, _end_of(prefix), now_s),
    )
    items: list[Item] = []
    size_bytes = 0
    for key, version, expires_at, value in rows:
        size_bytes += len(key.encode()) + len(value)
        if items and (len(items) >= min(limit, MAX_PAGE_ITEMS) or size_bytes > MAX_PAGE_BYTES):
            rows.close()
            return Page(tuple(items), has_more=True)
        items.append(Item(key, version, value, expires_at))
    return Page(tuple(items), has_more=False)


def apply(
    connection: sqlite3.Connection, transaction: Transaction, *, now_s: float, quota_bytes: int
) -> int:
    """Commit a transaction: check all that it has seen, then write all of it.

    One that does not let the state grow is never refused for the quota.

    Args:
        connection: in a transaction of the caller's, which makes the change durable.
        transaction: what was read and is to be written.
        now_s: seconds since the epoch; lifetimes begin here.
        quota_bytes: what all keys and values may take.

    Returns:
        The new version of the state; the present one when nothing changed.

    Raises:
        StateConflictError: something that was read is not so any more. Nothing was written.
        StateQuotaError: the state would grow over the quota. Nothing was written.
    """
    _check_seen(connection, transaction, now_s)
    present = usage(connection)
    plan = _plan(connection, transaction.writes, now_s)
    used_bytes = present.used_bytes + plan.more_bytes
    if plan.growth_bytes > 0 and used_bytes > quota_bytes:
        used_bytes -= _expired_bytes(connection, now_s) - plan.replaced_expired_bytes
        if used_bytes > quota_bytes:
            raise StateQuotaError(used_bytes, quota_bytes)
    if not plan.puts and not plan.deletes:
        return present.version
    version = present.version + 1
    connection.executemany(
        _PUT,
        (
            (write.key, version, None if write.ttl_s is None else now_s + write.ttl_s, write.value)
            for write in plan.puts
        ),
    )
    connection.executemany(_DELETE, ((key,) for key in plan.deletes))
    _count(connection, more_keys=plan.more_keys, more_bytes=plan.more_bytes)
    return version


def expire(connection: sqlite3.Connection, now_s: float, limit: int = SWEEP_KEYS) -> int:
    """Delete keys whose time is over, up to a limit, the oldest first; return how many.

    It is a change of the state: if there were any, its version grows.
    """
    rows = connection.execute(_EXPIRED, (now_s, limit)).fetchall()
    if rows:
        connection.executemany(_DELETE, ((key,) for key, _size in rows))
        _count(connection, more_keys=-len(rows), more_bytes=-sum(size for _key, size in rows))
    return len(rows)


def next_expiry(connection: sqlite3.Connection) -> float | None:
    """Return when the next key expires, or did; seconds since the epoch."""
    (at,) = connection.execute(
        "SELECT min(expires_at) FROM state WHERE expires_at IS NOT NULL"
    ).fetchone()
    return None if at is None else float(at)


def recount(connection: sqlite3.Connection) -> Usage:
    """Set the totals to what the table holds, as one change; for who wrote to it by other means."""
    keys, size_bytes = connection.execute(_TOTALS).fetchone()
    present = usage(connection)
    _count(connection, more_keys=keys - present.keys, more_bytes=size_bytes - present.used_bytes)
    return usage(connection)


def _end_of(prefix: str) -> str | bytes:
    """Return what all keys with a prefix, and no others from it on, are less than."""
    for position in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[position]) + 1
        if code > _LAST_CHARACTER:
            continue
        if code in _SURROGATES:
            code = _SURROGATES.stop
        return prefix[:position] + chr(code)
    return b""  # a BLOB is greater than any text (sqlite.org/datatype3.html, section 4.1)


def _check_seen(connection: sqlite3.Connection, transaction: Transaction, now_s: float) -> None:
    changed = []
    for key, version in transaction.reads.items():
        row = connection.execute(_VERSION, (key, now_s)).fetchone()
        if (0 if row is None else row[0]) != version:
            changed.append(key)
    if changed:
        raise StateConflictError(tuple(changed[:MAX_NAMED_KEYS]))
    for scan in transaction.scans:
        bounds = (scan.prefix, _end_of(scan.prefix), now_s)
        count, max_version = connection.execute(_SCAN, bounds).fetchone()
        if (count, max_version or 0) != (scan.count, scan.max_version):
            raise StateConflictError(())


@dataclass(slots=True)
class _Plan:
    """What a transaction changes, before any of it is done.

    Attributes:
        puts, deletes: the changes; of deletes those of keys that are there.
        more_keys, more_bytes: what is added to the totals.
        growth_bytes: the same but for keys that had expired: those were none.
        replaced_expired_bytes: of such keys, that are written anew or go.
    """

    puts: list[Write]
    deletes: list[str]
    more_keys: int = 0
    more_bytes: int = 0
    growth_bytes: int = 0
    replaced_expired_bytes: int = 0


def _plan(connection: sqlite3.Connection, writes: Iterable[Write], now_s: float) -> _Plan:
    plan = _Plan([], [])
    for write in writes:
        key_bytes = len(write.key.encode())
        row = connection.execute(_OLD, (write.key,)).fetchone()
        if row is None and write.value is None:
            continue
        old_bytes = new_bytes = 0
        if row is not None:
            old_bytes = key_bytes + row[0]
            plan.more_keys -= 1
        if write.value is None:
            plan.deletes.append(write.key)
        else:
            new_bytes = key_bytes + len(write.value)
            plan.puts.append(write)
            plan.more_keys += 1
        plan.more_bytes += new_bytes - old_bytes
        plan.growth_bytes += new_bytes - old_bytes
        if row is not None and row[1] is not None and row[1] <= now_s:
            plan.growth_bytes += old_bytes
            plan.replaced_expired_bytes += old_bytes
    return plan


def _expired_bytes(connection: sqlite3.Connection, now_s: float) -> int:
    (size_bytes,) = connection.execute(_EXPIRED_BYTES, (now_s,)).fetchone()
    return int(size_bytes)


def _count(connection: sqlite3.Connection, *, more_keys: int, more_bytes: int) -> None:
    connection.executemany(
        _ADD, ((1, "state_version"), (more_keys, "state_keys"), (more_bytes, "state_bytes"))
    )

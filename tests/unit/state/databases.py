"""Databases of agents, real files, for the tests of the state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.state.store import apply
from kagent_sdk.storage.database import open_database
from kagent_sdk.storage.schema import migrate

NOW_S = 1_795_542_000.25
PLENTY_BYTES = 1 << 30


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an agent's database, or make it."""
    database = open_database(path, "process", now_s=NOW_S)
    try:
        yield database.connection
    finally:
        database.close()


@contextmanager
def in_memory() -> Iterator[sqlite3.Connection]:
    """Make a database that is gone behind the block."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def put(
    connection: sqlite3.Connection,
    values: Mapping[str, bytes | None],
    *,
    ttl_s: float | None = None,
    now_s: float = NOW_S,
) -> int:
    """Write keys, whatever they were, in one transaction; return the new version."""
    writes = tuple(Write(key, value, ttl_s) for key, value in values.items())
    return apply(connection, Transaction(writes=writes), now_s=now_s, quota_bytes=PLENTY_BYTES)

"""The tables of ``runtime/journal.db``, and how an older file becomes a present one.

Times are seconds since the epoch; ``input``, ``output``, ``metadata`` and values are raw JSON.
``tasks.manifest`` is the id in ``manifests`` of the capability as it was when the task came, and
``events.task`` the ``seq`` of a task.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from kagent_sdk.errors import StorageVersionError

APPLICATION_ID = 0x6B41676E
"""``kAgn``: tells the file from any other SQLite file (PRAGMA application_id)."""

_VERSION_1 = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE manifests (
        id TEXT PRIMARY KEY,
        document TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    # The small columns come first: reading them then leaves the pages of long payloads alone.
    """
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        manifest TEXT NOT NULL,
        capability TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        conflicts INTEGER NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        deadline_at REAL,
        timeout_s REAL,
        size_bytes INTEGER NOT NULL,
        trace_id TEXT,
        traceparent TEXT NOT NULL,
        callback_url TEXT,
        lease TEXT,
        hops INTEGER,
        failure TEXT,
        progress TEXT,
        metadata BLOB NOT NULL,
        output BLOB,
        input BLOB NOT NULL
    )
    """,
    "CREATE INDEX open_tasks ON tasks (seq) WHERE finished_at IS NULL",
    "CREATE INDEX finished_tasks ON tasks (finished_at, size_bytes) WHERE finished_at IS NOT NULL",
    """
    CREATE TABLE events (
        task INTEGER NOT NULL,
        id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        kind TEXT NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (task, id)
    )
    """,
    """
    CREATE TABLE state (
        key TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        expires_at REAL,
        value BLOB NOT NULL
    )
    """,
    "CREATE INDEX state_expiry ON state (expires_at) WHERE expires_at IS NOT NULL",
    """
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        channel TEXT NOT NULL,
        lane TEXT NOT NULL,
        task TEXT NOT NULL,
        kind TEXT NOT NULL,
        destination TEXT NOT NULL,
        created_at REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at REAL,
        payload BLOB NOT NULL
    )
    """,
    # due_at is null behind another message of the same task: what is due is in the index alone.
    "CREATE INDEX outbox_due ON outbox (channel, lane, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX outbox_order ON outbox (channel, task, number)",
    "CREATE INDEX outbox_age ON outbox (channel, created_at)",
    # Reports go out in their order, whatever else waits; webhooks pay nothing for this one.
    "CREATE INDEX outbox_reports ON outbox (number) WHERE channel = 'link'",
    # state_version: of the last change; state_bytes and state_keys: of all keys and values.
    "INSERT INTO meta VALUES ('state_version', 0), ('state_bytes', 0), ('state_keys', 0)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1,)
"""The n-th makes a database of version n out of one of version n - 1. Released ones never change."""

SCHEMA_VERSION = len(MIGRATIONS)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of database.

    Attributes:
        application_id: tells its files from any other SQLite file (PRAGMA application_id).
        migrations: the n-th makes a database of version n out of one of version n - 1.
        owner: whose database it is, for a message.
    """

    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    owner: str

    @property
    def version(self) -> int:
        """The present version; an empty file has version 0."""
        return len(self.migrations)


AGENT_SCHEMA = Schema(APPLICATION_ID, MIGRATIONS, "an agent")


def migrate(
    connection: sqlite3.Connection, *, to: int | None = None, schema: Schema = AGENT_SCHEMA
) -> int:
    """Bring a database to a version in one transaction, and return what it was before.

    Args:
        connection: in autocommit mode.
        to: the version, the schema's own if None; one that the database has passed already leaves
            it as it is.
        schema: of which kind it is.

    Raises:
        StorageVersionError: it was written by a newer release; it is left as it is.
        sqlite3.Error: it cannot be read or written.
    """
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    if before > schema.version:
        raise StorageVersionError(before, schema.version)
    version = schema.version if to is None else to
    if before >= version:
        return int(before)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in schema.migrations[before:to]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return int(before)

"""The tables of ``orchestrator.db``. Times are seconds since the epoch; input and output raw JSON."""

from __future__ import annotations

from kagent_sdk.storage.schema import Schema

APPLICATION_ID = 0x6B4F7263
"""``kOrc``: tells the file from any other SQLite file (PRAGMA application_id)."""

TASK_TABLES: tuple[str, ...] = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value NOT NULL
    ) WITHOUT ROWID
    """,
    # The small columns come first: reading them then leaves the pages of long payloads alone.
    # wanted: the agent that the caller named. agent, instance, lease: who has it, or had it last.
    """
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        capability TEXT NOT NULL,
        wanted TEXT,
        agent TEXT,
        instance TEXT,
        lease TEXT,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        hops INTEGER NOT NULL,
        is_idempotent INTEGER NOT NULL,
        max_attempts INTEGER NOT NULL,
        is_canceling INTEGER NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        deadline_at REAL NOT NULL,
        timeout_s REAL,
        size_bytes INTEGER NOT NULL,
        trace_id TEXT,
        traceparent TEXT NOT NULL,
        labels TEXT NOT NULL,
        failure TEXT,
        progress TEXT,
        metadata BLOB NOT NULL,
        output BLOB,
        input BLOB NOT NULL
    )
    """,
    "CREATE INDEX open_tasks ON tasks (seq) WHERE finished_at IS NULL",
    "CREATE INDEX ended_tasks ON tasks (finished_at, size_bytes) WHERE finished_at IS NOT NULL",
    # agent_id: the event's id at the agent, which tells a copy of it within one attempt.
    """
    CREATE TABLE events (
        task INTEGER NOT NULL,
        id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        agent_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (task, id)
    )
    """,
)

ABSENCES: tuple[str, ...] = (
    # away_at: since when its agent is waited for, on the clock of `kagent_sdk.orchestrator.absences`.
    "ALTER TABLE tasks ADD COLUMN away_at REAL",
    "INSERT OR IGNORE INTO meta VALUES ('served_s', 0.0)",
)

ORCHESTRATOR_SCHEMA = Schema(APPLICATION_ID, (TASK_TABLES, ABSENCES), "an orchestrator")

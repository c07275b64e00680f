"""The tables of ``orchestrator.db``. Times are seconds since the epoch; input and output raw JSON."""

from __future__ import annotations

from kagent_sdk.orchestrator.fleet.schema import FLEET_TABLES
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
)

ORCHESTRATOR_SCHEMA = Schema(APPLICATION_ID, ((*TASK_TABLES, *FLEET_TABLES),), "an orchestrator")

"""A database of every released version becomes one of the present.

``versions/version-N.sql`` holds a database of that version with content, as the release wrote it. When
the schema gets a new version, make its file with ``python -m tests.unit.storage.test_migrations``
and commit it; those that are there never change.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kagent_sdk.errors import StorageVersionError
from kagent_sdk.storage.database import open_database
from kagent_sdk.storage.schema import (
    AGENT_SCHEMA,
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA_VERSION,
    migrate,
)

VERSIONS = Path(__file__).parent / "versions"
DUMPS = sorted(VERSIONS.glob("version-*.sql"))

CONTENT = """
UPDATE meta SET value = 3 WHERE name = 'state_version';
UPDATE meta SET value = 23 WHERE name = 'state_bytes';
UPDATE meta SET value = 2 WHERE name = 'state_keys';
INSERT INTO state (key, version, expires_at, value) VALUES ('counter', 3, NULL, x'3431');
INSERT INTO state (key, version, expires_at, value) VALUES ('users/1', 2, 4e9, x'224164612220');
INSERT INTO manifests (id, document) VALUES ('m1', '{"name":"digest"}');
INSERT INTO tasks (
    seq, id, manifest, capability, state, attempt, conflicts, created_at, started_at, finished_at,
    size_bytes, traceparent, metadata, output, input
) VALUES (
    1, 'done', 'm1', 'digest', 'completed', 1, 0, 1.5, 1.6, 1.7, 1040, '', x'7b7d', x'31', x'7b7d'
);
INSERT INTO tasks (
    seq, id, manifest, capability, state, attempt, conflicts, created_at, started_at, deadline_at,
    timeout_s, size_bytes, trace_id, traceparent, callback_url, progress, metadata, input
) VALUES (
    2, 'open', 'm1', 'digest', 'working', 2, 1, 1.5, 1.6, 301.5, 300.0, 1040, 't', '',
    'https://h/', '[0.5, null]', x'7b7d', x'7b7d'
);
INSERT INTO events (task, id, attempt, kind, data) VALUES (2, 1, 1, 'event', x'31');
INSERT INTO outbox (id, channel, lane, task, kind, destination, created_at, due_at, payload)
VALUES ('msg_1', 'webhook', 'https://h', 'done', 'task', 'https://h/', 1.7, 1.7, x'7b7d');
"""
"""Of version 1; a later version that needs more says so below."""


def load(dump: Path) -> sqlite3.Connection:
    """Return a database as a release has written it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(dump.read_text())
    return connection


def structure(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Return what a database is made of: tables with their columns, and indices."""
    names = connection.execute(
        "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY type, name"
    ).fetchall()
    columns = [
        (name, *column)
        for kind, name, _ in names
        if kind == "table"
        for column in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))
    ]
    indexed = [
        (name, *column)
        for kind, name, _ in names
        if kind == "index"
        for column in connection.execute("SELECT * FROM pragma_index_info(?)", (name,))
    ]
    return [*names, *columns, *indexed]


def rows(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return all that is in a database."""
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if not name.startswith("sqlite_")
    ]
    return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608 - names of the schema


def test_every_version_has_its_dump() -> None:
    """Without the file nobody would notice that its databases can no longer be read."""
    assert [dump.name for dump in DUMPS] == [
        f"version-{number}.sql" for number in range(1, SCHEMA_VERSION + 1)
    ], "make it: python -m tests.unit.storage.test_migrations"


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_database_of_every_version_becomes_a_present_one(dump: Path) -> None:
    """An upgrade of the library is not the end of an agent's memory."""
    with (
        closing(load(dump)) as old,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as new,
    ):
        before = migrate(old)
        migrate(new)

        assert before == int(dump.stem.removeprefix("version-"))
        assert structure(old) == structure(new)
        assert old.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert old.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert old.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = rows(old)
        assert [row[1] for row in found["tasks"]] == ["done", "open"]
        assert [row[0] for row in found["state"]] == ["counter", "users/1"]
        assert len(found["events"]) == len(found["outbox"]) == len(found["manifests"]) == 1
        assert set(found["meta"]) == {("state_version", 3), ("state_bytes", 23), ("state_keys", 2)}


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_dump_is_what_the_release_writes(dump: Path) -> None:
    """A released migration that somebody edits would make two databases of one version."""
    version = int(dump.stem.removeprefix("version-"))
    with (
        closing(load(dump)) as kept,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as made,
    ):
        migrate(made, to=version)

        assert structure(kept) == structure(made)


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    """An older release that starts on it must not guess."""
    path = tmp_path / "journal.db"
    open_database(path, "process", now_s=1.0).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StorageVersionError, match=r"restore a snapshot|install a newer"):
        open_database(path, "process", now_s=1.0)

    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal.db", "journal.db.lock"]


STEPS = tuple(f"CREATE TABLE extra_{number} (x)" for number in range(20))
NEXT = replace(AGENT_SCHEMA, migrations=(*MIGRATIONS, STEPS))
"""Another version, of many steps."""


def test_a_migration_that_fails_leaves_the_old_version() -> None:
    """Half a migration is no version at all."""
    with closing(load(DUMPS[-1])) as connection:
        before, content = structure(connection), rows(connection)
        connection.execute("CREATE TABLE extra_11 (y)")
        with pytest.raises(sqlite3.OperationalError, match="extra_11 already exists"):
            migrate(connection, schema=NEXT)
        connection.execute("DROP TABLE extra_11")

        assert structure(connection) == before
        assert rows(connection) == content
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert migrate(connection, schema=NEXT) == SCHEMA_VERSION
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)


KILLED = """
import os, signal, sqlite3, sys
from dataclasses import replace
from kagent_sdk.storage.schema import AGENT_SCHEMA, migrate

class Dying(sqlite3.Connection):
    left = int(sys.argv[2])
    def execute(self, statement, *rest):
        if "extra" in statement or "COMMIT" in statement:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return super().execute(statement, *rest)

steps = tuple(f"CREATE TABLE extra_{number} (x)" for number in range(3))
following = replace(AGENT_SCHEMA, migrations=(*AGENT_SCHEMA.migrations, steps))
connection = sqlite3.connect(sys.argv[1], isolation_level=None, factory=Dying)
migrate(connection, schema=following)
"""


@pytest.mark.parametrize("after", range(4))
def test_a_migration_that_is_killed_leaves_the_old_version(tmp_path: Path, after: int) -> None:
    """Upgrades are rolled out by orchestrators, which kill what takes too long."""
    path = tmp_path / "journal.db"
    opened = open_database(path, "process", now_s=1.0)
    opened.connection.executescript(CONTENT)
    before = rows(opened.connection)
    opened.close()
    done = subprocess.run([sys.executable, "-c", KILLED, path, str(after)], check=False)
    assert done.returncode == -9

    with closing(open_database(path, "process", now_s=2.0)) as opened:
        assert opened.quarantined is None
        assert opened.connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert rows(opened.connection) == before


def main() -> None:
    """Write the dump of the present version, unless it is there."""
    path = VERSIONS / f"version-{SCHEMA_VERSION}.sql"
    VERSIONS.mkdir(exist_ok=True)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        connection.executescript(CONTENT)
        lines = [
            *connection.iterdump(),
            f"PRAGMA application_id = {APPLICATION_ID};",
            f"PRAGMA user_version = {SCHEMA_VERSION};",
        ]
    with path.open("x") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

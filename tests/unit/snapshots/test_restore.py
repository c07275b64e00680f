"""Making an agent out of a snapshot; damaged ones stand in test_hostile.py."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.restore import major_of, restore
from kagent_sdk.state.memory_file import FileLimits
from kagent_sdk.state.memory_store import MemoryStore
from kagent_sdk.state.recovery import DATABASE, recover
from kagent_sdk.storage.database import lock_database, open_database
from kagent_sdk.storage.schema import AGENT_SCHEMA, MIGRATIONS, SCHEMA_VERSION, migrate
from tests.unit.snapshots import samples
from tests.unit.snapshots.samples import NOW_S, make_snapshot, target_of

ROWS = (
    "SELECT * FROM state ORDER BY key",
    "SELECT * FROM manifests",
    "SELECT * FROM tasks WHERE finished_at IS NULL ORDER BY seq",
    "SELECT * FROM events ORDER BY task, id",
    "SELECT * FROM meta WHERE name <> 'state_origin' ORDER BY name",
)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Return a snapshot with a cache."""
    return make_snapshot(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Return the folder of an agent that has never run."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    return folder


def rows_of(database: Path) -> list[list[tuple[object, ...]]]:
    """Return all that a snapshot keeps."""
    opened = open_database(database, "process", now_s=NOW_S)
    try:
        assert opened.quarantined is None
        assert not opened.is_new
        assert opened.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert opened.connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        # As bytes: what stood there as text is bytes now, as the journal writes it.
        return [
            [tuple(v.encode() if isinstance(v, str) else v for v in row) for row in found]
            for found in (opened.connection.execute(query).fetchall() for query in ROWS)
        ]
    finally:
        opened.close()


def test_a_file_that_lies_there_is_not_mixed_in(snapshot: Path, fresh: Path) -> None:
    """The restored state is that of the snapshot, also where that is none."""
    runtime = fresh / "runtime"
    restore(snapshot, target_of(fresh), NOW_S)
    (runtime / "memory_store.json").write_text('{"mine": 1}')
    with closing(sqlite3.connect(runtime / "journal.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM state")
        connection.execute("UPDATE meta SET value = 0 WHERE name = 'state_version'")
        files = MemoryStore(runtime, FileLimits("hello", 1 << 20))
        recovery = recover(connection, files, now_s=NOW_S, quarantined_database=None)

        assert recovery.origin == DATABASE
        assert connection.execute("SELECT count(*) FROM state").fetchone() == (0,)


def test_everything_is_there_again(snapshot: Path, fresh: Path, tmp_path: Path) -> None:
    """State, open tasks with their attempts, events and deadlines, and the cache."""
    told: list[tuple[int, int]] = []
    done = restore(snapshot, target_of(fresh), NOW_S, lambda *at: told.append(at))

    assert rows_of(fresh / "runtime" / "journal.db") == rows_of(
        tmp_path / "origin" / "runtime" / "journal.db"
    )
    assert done.manifest.open_tasks == 2
    assert done.kept == ()
    cache = fresh / "runtime" / "cache"
    assert (cache / "models" / "tiny.bin").read_bytes() == bytes(range(256)) * 4
    assert sorted(path.name for path in (fresh / "runtime").iterdir()) == [
        "cache",
        "journal.db",
        "journal.db.lock",
    ]
    assert told[-1] == (snapshot.stat().st_size, snapshot.stat().st_size)


def test_without_a_cache_the_one_that_is_there_stays(tmp_path: Path, fresh: Path) -> None:
    """It is scratch: an old one does no harm, and its loss would cost time."""
    snapshot = make_snapshot(tmp_path, with_cache=False)
    (fresh / "runtime" / "cache").mkdir(parents=True)
    (fresh / "runtime" / "cache" / "mine").touch()
    restore(snapshot, target_of(fresh), NOW_S)

    assert (fresh / "runtime" / "cache" / "mine").exists()


def test_a_cache_that_is_there_is_kept_aside(snapshot: Path, fresh: Path) -> None:
    """Nothing of the agent's is ever deleted."""
    (fresh / "runtime" / "cache").mkdir(parents=True)
    (fresh / "runtime" / "cache" / "mine").touch()
    done = restore(snapshot, target_of(fresh), NOW_S)

    assert done.kept == ("cache.before-restore-20270115T080000Z",)
    assert (fresh / "runtime" / done.kept[0] / "mine").exists()
    assert (fresh / "runtime" / "cache" / "note").exists()


def test_a_journal_is_put_aside_by_force_alone(snapshot: Path, fresh: Path) -> None:
    """Restoring into the wrong folder must not cost an agent its tasks."""
    database = samples.make_agent(fresh, {"mine": b"1"})
    before = samples.picture(fresh)
    with pytest.raises(SnapshotError, match=r"a journal already .* --force"):
        restore(snapshot, target_of(fresh), NOW_S)
    assert samples.picture(fresh) == before

    old = rows_of(database)
    done = restore(snapshot, target_of(fresh, is_forced=True), NOW_S)
    again = restore(snapshot, target_of(fresh, is_forced=True), NOW_S)

    assert done.kept == ("journal.db.before-restore-20270115T080000Z",)
    assert again.kept[-1] == "journal.db.before-restore-20270115T080000Z-1"
    assert rows_of(fresh / "runtime" / done.kept[0]) == old
    assert rows_of(database)[0] == rows_of(snapshot.parent.parent / "origin/runtime/journal.db")[0]


def test_what_lies_in_the_log_of_a_killed_host_is_kept_with_its_journal(
    snapshot: Path, fresh: Path
) -> None:
    """SQLite would take the log for the new journal's, and mix the two."""
    database = samples.make_agent(fresh, {"mine": b"1"})
    with crashed(database, "UPDATE state SET value = x'32'"):
        done = restore(snapshot, target_of(fresh, is_forced=True), NOW_S)

        assert not database.with_name("journal.db-wal").exists()
    assert rows_of(fresh / "runtime" / done.kept[0])[0] == [(b"mine", 1, None, b"2")]
    assert len(rows_of(database)[0]) == 3


def test_a_log_without_its_journal_is_not_taken_for_the_new_ones(
    snapshot: Path, fresh: Path
) -> None:
    """Somebody has deleted the journal alone to start anew."""
    database = samples.make_agent(fresh, {"mine": b"1"})
    with crashed(database, "UPDATE state SET value = x'32'"):
        database.unlink()
        restore(snapshot, target_of(fresh), NOW_S)

    assert len(rows_of(database)[0]) == 3


class crashed:  # noqa: N801 - used as a function
    """Leave a database as a killed host does: with the last change in its log alone."""

    def __init__(self, database: Path, statement: str) -> None:
        self._database = database
        self._statement = statement

    def __enter__(self) -> None:
        """Change it, and bring back the log that the orderly end removes."""
        connection = sqlite3.connect(self._database, isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(self._statement)
        log = self._database.with_name(self._database.name + "-wal")
        main, content = self._database.read_bytes(), log.read_bytes()
        connection.close()
        self._database.write_bytes(main)
        log.write_bytes(content)

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""


def test_a_damaged_journal_is_kept_as_it_is(snapshot: Path, fresh: Path) -> None:
    """The very case that a snapshot is for."""
    (fresh / "runtime").mkdir()
    (fresh / "runtime" / "journal.db").write_bytes(b"rotten" * 1000)
    done = restore(snapshot, target_of(fresh, is_forced=True), NOW_S)

    assert (fresh / "runtime" / done.kept[-1]).read_bytes() == b"rotten" * 1000
    assert len(rows_of(fresh / "runtime" / "journal.db")[0]) == 3


@pytest.mark.parametrize("is_forced", [False, True])
def test_an_agent_that_runs_is_left_alone(snapshot: Path, fresh: Path, is_forced: bool) -> None:
    """Its host has the journal open; no force changes that."""
    database = samples.make_agent(fresh)
    lock = lock_database(database)
    before = samples.picture(fresh)
    try:
        with pytest.raises(SnapshotError, match="the agent runs; stop it first"):
            restore(snapshot, target_of(fresh, is_forced=is_forced), NOW_S)
    finally:
        os.close(lock)

    assert samples.picture(fresh) == before


def test_an_agent_that_starts_meanwhile_is_left_alone(
    snapshot: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a large snapshot takes a while."""
    (fresh / "runtime").mkdir()
    held: list[int] = []

    def start(_path: Path) -> None:
        held.append(lock_database(fresh / "runtime" / "journal.db"))

    monkeypatch.setattr("kagent_sdk.snapshots.restore._sync_file", start)
    with pytest.raises(SnapshotError, match="the agent runs"):
        restore(snapshot, target_of(fresh), NOW_S)
    os.close(held[0])

    assert sorted(samples.picture(fresh)) == ["runtime", "runtime/journal.db.lock"]


def test_a_journal_that_appears_meanwhile_is_left_alone(
    snapshot: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host came and went while the snapshot was read."""

    def come_and_go(_path: Path) -> None:
        open_database(fresh / "runtime" / "journal.db", "process", now_s=NOW_S).close()

    monkeypatch.setattr("kagent_sdk.snapshots.restore._sync_file", come_and_go)
    with pytest.raises(SnapshotError, match="was made meanwhile"):
        restore(snapshot, target_of(fresh), NOW_S)

    assert not (fresh / "runtime" / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent": "eve"}, "of the agent 'ada', and this one is 'eve'"),
        ({"version": "2.0"}, "of version 1.2 of the agent, and this is 2.0"),
    ],
)
def test_another_agent_or_version_needs_force(
    snapshot: Path, fresh: Path, changes: dict[str, Any], said: str
) -> None:
    """A state that another code has written may mean something else."""
    with pytest.raises(SnapshotError, match=said):
        restore(snapshot, target_of(fresh, **changes), NOW_S)
    assert samples.picture(fresh) == {}

    restore(snapshot, target_of(fresh, is_forced=True, **changes), NOW_S)


@pytest.mark.parametrize(
    ("version", "major"),
    [("1.2.3", "1"), ("v1", "1"), ("01.5", "1"), ("2024-05", "2024"), ("main", "main"), ("", "")],
)
def test_versions_are_compared_by_their_first_number(version: str, major: str) -> None:
    """Semantic versions change it when the meaning of data changes."""
    assert major_of(version) == major


def test_a_full_disk_leaves_the_agent_as_it_was(
    snapshot: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the system are told as one sentence."""

    def fail(*_arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("kagent_sdk.snapshots.restore.write_file", fail)
    with pytest.raises(SnapshotError, match="nothing was restored: No space left on device"):
        restore(snapshot, target_of(fresh), NOW_S)
    assert samples.picture(fresh) == {}

    def break_off(*_arguments: object, **_options: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("kagent_sdk.snapshots.restore.migrate", break_off)
    with pytest.raises(SnapshotError, match="nothing was restored: database or disk is full"):
        restore(snapshot, target_of(fresh), NOW_S)
    assert samples.picture(fresh) == {}


def test_a_lock_that_cannot_be_taken_is_told(snapshot: Path, fresh: Path) -> None:
    """Somebody has put a link in its place."""
    (fresh / "runtime").mkdir()
    (fresh / "runtime" / "journal.db.lock").symlink_to(fresh)
    with pytest.raises(SnapshotError, match=r"cannot open journal\.db\.lock"):
        restore(snapshot, target_of(fresh), NOW_S)


@pytest.fixture
def newer_schema(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pretend that the next release has added a column."""
    step = ("ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 5",)
    version = SCHEMA_VERSION + 1
    schema = replace(AGENT_SCHEMA, migrations=(*MIGRATIONS, step))
    for function in (migrate, open_database):
        defaults = {**(function.__kwdefaults__ or {}), "schema": schema}
        monkeypatch.setattr(function, "__kwdefaults__", defaults)
    for module in ("storage.schema", "snapshots.intake", "snapshots.restore", "snapshots.verify"):
        monkeypatch.setattr(f"kagent_sdk.{module}.SCHEMA_VERSION", version)
    return version


def test_a_snapshot_of_an_older_schema_is_migrated(
    snapshot: Path, fresh: Path, newer_schema: int
) -> None:
    """Its rows are read by the schema that they were written by, and then brought forward."""
    restore(snapshot, target_of(fresh), NOW_S)

    with closing(sqlite3.connect(fresh / "runtime" / "journal.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newer_schema,)
        assert connection.execute("SELECT id, priority FROM tasks").fetchall() == [
            ("waits", 5),
            ("works", 5),
        ]

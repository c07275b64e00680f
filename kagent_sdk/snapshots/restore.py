"""Making an agent's database out of a snapshot.

Everything is read and checked into a folder of its own first. Only when all of it is right is it put
in its place, by renaming; until then nothing of the agent was touched.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kagent_sdk.errors import SnapshotError, StorageError, StorageLockedError
from kagent_sdk.snapshots.cache_files import write_file
from kagent_sdk.snapshots.intake import Intake, columns_of
from kagent_sdk.snapshots.manifest import Manifest
from kagent_sdk.snapshots.reading import Archive, OnRead, open_archive
from kagent_sdk.snapshots.rows import Value
from kagent_sdk.state.file_record import write_origin
from kagent_sdk.storage.database import SIDE_FILES, connect, lock_database
from kagent_sdk.storage.quarantine import free_name, sync_folder
from kagent_sdk.storage.schema import SCHEMA_VERSION, migrate

DATABASE = "journal.db"
LOCK_SUFFIX = ".lock"

_major = re.compile(r"[vV]?([0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """The agent that gets the state and the tasks.

    Attributes:
        directory: its folder.
        agent, version: as its configuration says.
        max_bytes: what a snapshot may unpack to.
        is_forced: take a snapshot of another agent or version, and put a journal that is there aside.
    """

    directory: Path
    agent: str
    version: str
    max_bytes: int
    is_forced: bool = False

    @property
    def runtime(self) -> Path:
        """The folder of what the host writes."""
        return self.directory / "runtime"

    @property
    def database(self) -> Path:
        """The journal."""
        return self.runtime / DATABASE


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    Attributes:
        kept: names in ``runtime/`` of what was there before.
    """

    manifest: Manifest
    kept: tuple[str, ...]


def restore(
    path: Path, target: Target, now_s: float, on_read: OnRead = lambda _done, _all: None
) -> Restored:
    """Give an agent that does not run what is in a snapshot.

    Args:
        path: of the snapshot.
        target: the agent.
        now_s: seconds since the epoch.
        on_read: told how far it is.

    Raises:
        SnapshotError: the snapshot is damaged or does not fit, or the agent runs or has a journal;
            the agent is as it was.
    """
    _refuse_running(target)
    with open_archive(path, target.max_bytes, on_read) as archive:
        refuse_misfit(archive.manifest, target)
        if target.database.exists() and not target.is_forced:
            raise SnapshotError(
                f"the agent has a journal already (runtime/{DATABASE}): restore into a fresh "
                "folder, or put it aside with --force"
            )
        with _translated(), _staging(target.runtime) as staging:
            _unpack(archive, staging)
            return Restored(archive.manifest, _put_in_place(staging, target, now_s))


def refuse_misfit(manifest: Manifest, target: Target) -> None:
    """See that a snapshot is of this agent and can be read by this release.

    Raises:
        SnapshotError: it is not, and that is not forced or cannot be.
    """
    if manifest.schema_version > SCHEMA_VERSION:
        raise SnapshotError(
            f"the snapshot has schema version {manifest.schema_version}, and this release knows up "
            f"to {SCHEMA_VERSION}: install a newer kagent-sdk (it was made with "
            f"{manifest.sdk_version})"
        )
    if target.is_forced:
        return
    if manifest.agent != target.agent:
        raise SnapshotError(
            f"the snapshot is of the agent '{manifest.agent}', and this one is '{target.agent}'; "
            "if that is meant, use --force"
        )
    if major_of(manifest.agent_version) != major_of(target.version):
        raise SnapshotError(
            f"the snapshot is of version {manifest.agent_version} of the agent, and this is "
            f"{target.version}; if its state fits, use --force"
        )


def major_of(version: str) -> str:
    """Return what two versions must have in common; the whole when it does not begin with a number."""
    match = _major.match(version)
    return version if match is None else str(int(match[1]))


class _Sink:
    """Writes rows into a database and files into a folder.

    Args:
        connection: of a database with the snapshot's schema.
        version: of the schema.
        cache: where files go.
    """

    def __init__(self, connection: sqlite3.Connection, version: int, cache: Path) -> None:
        self._connection = connection
        self._cache = cache
        self._statements = {
            table: f"INSERT INTO {table} ({', '.join(column.name for column in columns)}) "  # noqa: S608 - names of the schema
            f"VALUES ({', '.join('?' * len(columns))})"
            for table, columns in columns_of(version).items()
        }

    def take_row(self, table: str, values: Sequence[Value]) -> None:
        self._connection.execute(self._statements[table], values)

    def take_file(self, name: str, chunks: Iterable[bytes]) -> None:
        write_file(self._cache, name, chunks)


def _unpack(archive: Archive, staging: Path) -> None:
    """Make a database and a cache of a snapshot, in a folder that is ours alone.

    Raises:
        SnapshotError: a member is damaged.
        sqlite3.Error, OSError: the disk does not take it.
    """
    manifest = archive.manifest
    database = staging / DATABASE
    # SQLite gives a log beside it the same permissions (sqlite.org/wal.html).
    database.touch(mode=0o600, exist_ok=False)
    with closing(connect(str(database), "power")) as connection:
        migrate(connection, to=manifest.schema_version)
        connection.execute("BEGIN")
        sink = _Sink(connection, manifest.schema_version, staging / "cache")
        problems = Intake(archive, sink).run()
        if problems:
            raise SnapshotError("the snapshot is damaged; nothing was restored", problems)
        connection.executemany(
            "UPDATE meta SET value = ? WHERE name = ?",
            [
                (manifest.state_version, "state_version"),
                (manifest.state_bytes, "state_bytes"),
                (manifest.state_keys, "state_keys"),
            ],
        )
        # Or a memory_store.json that lies there would be taken for the state of an agent without one.
        write_origin(connection, "snapshot")
        connection.execute("COMMIT")
        migrate(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _sync_file(database)


def _put_in_place(staging: Path, target: Target, now_s: float) -> tuple[str, ...]:
    """Rename everything to where it belongs; return the names of what was there before."""
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    with _locked(target):
        if target.database.exists() and not target.is_forced:
            raise SnapshotError(f"runtime/{DATABASE} was made meanwhile; nothing was restored")
        kept = list(_keep_cache(staging, target.runtime, stamp))
        kept += _keep_database(target.database, stamp)
        (staging / DATABASE).rename(target.database)
        sync_folder(target.runtime)
    return tuple(kept)


def _keep_cache(staging: Path, runtime: Path, stamp: str) -> Iterator[str]:
    cache, new = runtime / "cache", staging / "cache"
    if not any(new.iterdir()):
        return
    with suppress(OSError):
        cache.rmdir()  # an empty one is not worth keeping
    if cache.is_symlink() or cache.exists():
        yield _put_aside(cache, stamp).name
    new.rename(cache)


def _keep_database(database: Path, stamp: str) -> Iterator[str]:
    old = free_name(database.with_name(f"{database.name}.before-restore-{stamp}"))
    if database.exists():
        _fold(database)
        try:
            # Two names for a moment: whatever happens now, the agent has a database.
            os.link(database, old)
        except OSError:
            database.rename(old)
        yield old.name
    # Also where the database itself is gone: SQLite would take them for the new one's.
    for ending in SIDE_FILES:
        side = database.with_name(database.name + ending)
        if side.exists():
            side.rename(old.with_name(old.name + ending))


def _put_aside(path: Path, stamp: str) -> Path:
    aside = free_name(path.with_name(f"{path.name}.before-restore-{stamp}"))
    path.rename(aside)
    return aside


def _fold(database: Path) -> None:
    """Let SQLite write its log into the file: alone the log could be taken for the new one's."""
    with suppress(sqlite3.Error), closing(connect(str(database), "power")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _refuse_running(target: Target) -> None:
    """See that no host has the database, without leaving a lock file where there is none."""
    if target.database.with_name(DATABASE + LOCK_SUFFIX).exists():
        with _locked(target):
            pass


@contextmanager
def _locked(target: Target) -> Iterator[None]:
    try:
        lock = lock_database(target.database)
    except StorageLockedError:
        raise SnapshotError(
            "the agent runs; stop it first (kos-agent status shows its process id)"
        ) from None
    except StorageError as exc:
        raise SnapshotError(str(exc)) from exc
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _staging(runtime: Path) -> Iterator[Path]:
    """Give a folder beside the database; it is gone afterwards, and `runtime` if it was not there."""
    is_new = not runtime.exists()
    runtime.mkdir(mode=0o755, exist_ok=True)
    try:
        staging = Path(tempfile.mkdtemp(prefix=".restore-", dir=runtime))
        try:
            (staging / "cache").mkdir(mode=0o700)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException:
        if is_new:
            with suppress(OSError):
                runtime.rmdir()
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise SnapshotError(f"nothing was restored: {exc.strerror or exc}") from exc
    except sqlite3.Error as exc:
        raise SnapshotError(f"nothing was restored: {exc}") from exc


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

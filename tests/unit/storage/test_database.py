"""Opening the database: whatever lies at its place, the agent starts clean or says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from kagent_sdk.errors import StorageError, StorageLockedError, StorageVersionError
from kagent_sdk.storage import database
from kagent_sdk.storage.database import log_of, open_database, suspect_mark
from kagent_sdk.storage.schema import APPLICATION_ID, SCHEMA_VERSION
from tests.unit.storage.databases import NOW_S, copy_as_crashed, names, opened, put, read_names

ASIDE = "journal.db.corrupt-20250615T150640"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is to be."""
    return tmp_path / "journal.db"


def make(path: Path, *statements: str) -> None:
    """Make an SQLite file of somebody else's."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def change(path: Path, *statements: str) -> None:
    """Make a database of ours, and change it by hand."""
    with opened(path) as database:
        put("a")(database.connection)
    make(path, *statements)


def test_a_database_is_made_where_there_is_none(path: Path) -> None:
    """The first start of an agent; only its owner may read what tasks hold."""
    with opened(path) as made:
        assert made.is_new
        assert made.quarantined is None
        assert made.connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert made.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert made.connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        modes = [stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()]

    assert modes == [0o600] * 4  # the database, its log, its index and the lock
    with opened(path) as again:
        assert not again.is_new


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2), ("none", 0)])
def test_durability_is_what_sqlite_is_told(
    path: Path, durability: database.Durability, synchronous: int
) -> None:
    """`power` must wait for the disk at each commit; https://www.sqlite.org/pragma.html."""
    with opened(path, durability) as made:
        assert made.connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    """A start that was killed in its first moment leaves one."""
    path.touch()

    with opened(path) as made:
        assert made.is_new
        assert made.quarantined is None


def test_a_second_host_is_turned_away(path: Path) -> None:
    """Two hosts would run the same tasks twice."""
    with opened(path), pytest.raises(StorageLockedError, match="another host runs this agent"):
        open_database(path, "process", now_s=NOW_S)
    with opened(path):
        pass


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda path: path.write_bytes(b"not a database, but a text\n" * 500), id="text"
        ),
        pytest.param(lambda path: path.write_bytes(os.urandom(8192)), id="noise"),
        pytest.param(lambda path: path.write_bytes(b"x"), id="one byte"),
        pytest.param(lambda path: make(path, "CREATE TABLE theirs (x)"), id="foreign"),
        pytest.param(
            lambda path: make(path, "PRAGMA application_id = 1", "PRAGMA user_version = 1"),
            id="foreign and empty",
        ),
        pytest.param(lambda path: change(path, "PRAGMA user_version = -1"), id="version below 0"),
        pytest.param(lambda path: change(path, "PRAGMA user_version = 0"), id="no version"),
        pytest.param(lambda path: change(path, "DROP TABLE events"), id="a table less"),
        pytest.param(lambda path: change(path, "DROP INDEX open_tasks"), id="an index less"),
        pytest.param(
            lambda path: change(
                path, "CREATE TRIGGER t AFTER INSERT ON tasks BEGIN DELETE FROM state; END"
            ),
            id="trigger",
        ),
        pytest.param(lambda path: change(path, "CREATE VIEW v AS SELECT 1"), id="view"),
    ],
)
def test_what_is_no_database_of_ours_is_put_aside_whole(
    path: Path, write: Callable[[Path], None]
) -> None:
    """Somebody's file is never deleted, and never stops the agent."""
    write(path)
    before = path.read_bytes()
    with opened(path) as made:
        put("new")(made.connection)
        assert made.is_new
        assert made.quarantined == path.with_name(ASIDE)

    assert path.with_name(ASIDE).read_bytes() == before
    assert read_names(path) == ["new"]


def test_an_index_of_the_operator_s_does_no_harm(path: Path) -> None:
    """Whoever added one to look something up must not lose the database for it."""
    change(path, "CREATE INDEX mine ON tasks (created_at)")

    with opened(path) as made:
        assert not made.is_new


def test_a_newer_database_is_left_as_it_is(path: Path) -> None:
    """After a rollback of the release: the newer one must still be able to read it."""
    change(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()

    with pytest.raises(StorageVersionError, match="install a newer kagent-sdk"):
        open_database(path, "process", now_s=NOW_S)
    assert path.read_bytes() == before
    with closing(os.scandir(path.parent)) as entries:
        assert {entry.name for entry in entries} == {"journal.db", "journal.db.lock"}


def test_a_file_cut_short_is_put_aside(path: Path) -> None:
    """A copy that was interrupted."""
    with opened(path) as made:
        put("a", b"\0" * 100_000)(made.connection)
    os.truncate(path, path.stat().st_size // 2)

    with opened(path) as again:
        assert again.quarantined == path.with_name(ASIDE)


def test_a_crash_costs_nothing_that_was_committed(path: Path, tmp_path: Path) -> None:
    """The log of a dead host is its last word: it belongs into the database."""
    with opened(path) as made:
        put("a")(made.connection)
        made.connection.execute("BEGIN")
        put("not committed")(made.connection)
        crashed = copy_as_crashed(path, tmp_path / "crashed.db")
        made.connection.execute("ROLLBACK")
    assert log_of(crashed).stat().st_size > 0

    with opened(crashed) as again:
        assert names(again.connection) == ["a"]
        assert not again.is_new
        assert again.quarantined is None


def test_a_crash_at_the_very_first_moment_is_a_first_start(path: Path) -> None:
    """A seed is read at the first start: that the file exists does not mean that it was."""
    make(path, "PRAGMA journal_mode = WAL", "PRAGMA auto_vacuum = INCREMENTAL")
    assert path.stat().st_size > 0

    with opened(path) as made:
        assert made.is_new
        assert made.quarantined is None


@pytest.mark.parametrize("length", [1, 31, 32, 4000, 4152, 9000])
def test_a_torn_log_costs_only_what_was_not_committed(
    path: Path, tmp_path: Path, length: int
) -> None:
    """The power went while the log was written: what was in the file before stays."""
    with opened(path) as made:
        put("a")(made.connection)
    with opened(path) as made:
        put("b")(made.connection)
        put("c")(made.connection)
        crashed = copy_as_crashed(path, tmp_path / "crashed.db")
    os.truncate(log_of(crashed), length)

    with opened(crashed) as again:
        assert "a" in names(again.connection)
        assert again.quarantined is None


def test_a_log_of_noise_is_ignored(path: Path) -> None:
    """It belongs to nothing: each frame carries a checksum (sqlite.org/fileformat2.html)."""
    with opened(path) as made:
        put("a")(made.connection)
    log_of(path).write_bytes(os.urandom(100_000))

    with opened(path) as again:
        assert names(again.connection) == ["a"]
        assert again.quarantined is None


def test_a_log_of_another_database_is_noticed(path: Path, tmp_path: Path) -> None:
    """A file copied back beside an old log: SQLite mixes the two without a word.

    What fits by chance cannot be told: the log does not say which file it belongs to.
    """
    with opened(path) as made:
        put("a", b"a" * 300_000)(made.connection)
    with opened(tmp_path / "other.db") as other:
        put("b", b"b" * 900_000)(other.connection)
    with opened(tmp_path / "other.db") as other:
        put("c", b"c" * 5000)(other.connection)
        shutil.copy(log_of(tmp_path / "other.db"), log_of(path))

    with opened(path) as again:
        assert again.quarantined == path.with_name(ASIDE)
        assert names(again.connection) == []
    assert path.with_name(ASIDE + "-wal").exists()


def test_a_log_without_its_database_is_kept(path: Path, tmp_path: Path) -> None:
    """SQLite would delete it, and with it the only copy of what it holds."""
    with opened(tmp_path / "other.db") as other:
        put("a")(other.connection)
        shutil.copy(log_of(tmp_path / "other.db"), log_of(path))
    before = log_of(path).read_bytes()

    with opened(path) as made:
        assert made.is_new
        assert made.quarantined == path.with_name("journal.db-wal.corrupt-20250615T150640")
        assert made.quarantined.read_bytes() == before


def test_a_large_file_is_not_read_whole_after_a_crash(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is a budget: only the mark of a fault makes it worth minutes."""
    with opened(path) as made:
        put("a")(made.connection)
        crashed = copy_as_crashed(path, tmp_path / "crashed.db")
    monkeypatch.setattr(database, "CHECK_AFTER_CRASH_BYTES", 1000)
    told: list[str] = []
    really_connect = sqlite3.connect

    def connect(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = really_connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(told.append)
        assert isinstance(connection, sqlite3.Connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    with opened(crashed):
        assert not any("integrity_check" in statement for statement in told)
    suspect_mark(crashed).touch()
    with opened(crashed):
        assert any("integrity_check" in statement for statement in told)


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db-shm"])
@pytest.mark.parametrize(
    "make_it",
    [
        pytest.param(Path.mkdir, id="folder"),
        pytest.param(lambda path: path.symlink_to(path.with_name("elsewhere")), id="dangling link"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="link"),
        pytest.param(os.mkfifo, id="pipe"),
    ],
)
def test_what_is_no_file_is_refused_and_named(
    path: Path, name: str, make_it: Callable[[Path], None]
) -> None:
    """Two agents that share a database by a link would have two locks; a pipe would block."""
    make_it(path.with_name(name))

    with pytest.raises(StorageError, match=f"{name} is not a plain file"):
        open_database(path, "process", now_s=NOW_S)
    assert path.with_name(name).lstat()


@pytest.mark.parametrize("make_it", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_lock_that_is_no_file_is_refused(path: Path, make_it: Callable[[Path], None]) -> None:
    """Whoever put it there must not choose what the host opens."""
    make_it(path.with_name("journal.db.lock"))

    with pytest.raises(StorageError, match=r"cannot open journal\.db\.lock: "):
        open_database(path, "process", now_s=NOW_S)


def test_a_file_system_without_locks_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems: without the lock two hosts would meet there."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="cannot lock"):
        open_database(path, "process", now_s=NOW_S)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """An error with a file's name, and no traceback of the system's."""
    with pytest.raises(StorageError, match=r"cannot open journal\.db\.lock: No such file"):
        open_database(tmp_path / "no" / "journal.db", "process", now_s=NOW_S)


def test_a_file_that_may_not_be_read_is_left_alone() -> None:
    """Wrong owner after a restore by root: an error, no new and empty database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with opened(path):
            pass
        path.chmod(0)
        Path(folder).chmod(0o777)
        path.with_name("journal.db.lock").chmod(0o666)

        with without_rights(), pytest.raises(StorageError, match=r"cannot open journal\.db: "):
            open_database(path, "process", now_s=NOW_S)
        assert [file.name for file in Path(folder).glob("*corrupt*")] == []


def test_a_damaged_file_that_cannot_be_put_aside_is_an_error() -> None:
    """A folder that is not ours: better no start than a start without the tasks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        path.write_bytes(b"noise" * 1000)
        path.chmod(0o666)
        path.with_name("journal.db.lock").touch()
        path.with_name("journal.db.lock").chmod(0o666)
        Path(folder).chmod(0o555)

        with without_rights(), pytest.raises(StorageError, match="Permission denied"):
            open_database(path, "process", now_s=NOW_S)
        Path(folder).chmod(0o777)
        assert path.read_bytes() == b"noise" * 1000


def test_an_error_gives_the_lock_back(path: Path) -> None:
    """The next try must meet the real error, not its own lock."""
    path.mkdir()
    for _ in range(2):
        with pytest.raises(StorageError, match="not a plain file"):
            open_database(path, "process", now_s=NOW_S)


def test_no_child_inherits_a_descriptor(path: Path) -> None:
    """The worker runs the author's code: the database and its lock are the host's alone."""
    files: dict[Path, bool] = {}
    with opened(path) as made:
        put("a")(made.connection)
        for link in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # of the listing itself
                files[link.readlink()] = os.get_inheritable(int(link.name))

    ours = {name.name: flag for name, flag in files.items() if name.parent == path.parent}
    assert ours == dict.fromkeys(
        ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"], False
    )


@contextmanager
def without_rights() -> Iterator[None]:
    """Be nobody for the time of the block, where we are root; else we are somebody already."""
    nobody = 65534
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)

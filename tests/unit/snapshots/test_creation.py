"""Making snapshots: what goes in, what does not, and what is left when one fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.creation import Made, Order, create
from kagent_sdk.snapshots.destination import FolderDestination
from kagent_sdk.snapshots.manifest import parse_manifest
from kagent_sdk.storage.database import open_database
from tests.unit.snapshots import samples
from tests.unit.snapshots.samples import MAX_BYTES, NOW_S, make_agent, snapshot_of, viewing

SECRET = b"sk-0123456789"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return the journal of an agent that has run."""
    return make_agent(tmp_path / "origin")


def make(
    database: Path,
    folder: Path,
    *,
    cache: Path | None = None,
    max_bytes: int = MAX_BYTES,
    check: Callable[[], None] = lambda: None,
) -> Made:
    """Make a snapshot that must not hold `SECRET`."""
    return create(
        lambda: viewing(database),
        Order("ada", "1.2", cache, max_bytes, keep=3),
        FolderDestination(folder),
        finds_secret=lambda text: SECRET in text,
        now_s=NOW_S,
        check=check,
    )


def change(database: Path, statement: str, *values: object) -> None:
    """Change the journal."""
    opened = open_database(database, "process", now_s=NOW_S)
    opened.connection.execute(statement, values)
    opened.close()


def test_a_snapshot_holds_the_state_and_the_open_tasks(database: Path, tmp_path: Path) -> None:
    """What is finished was answered; what is open must go on."""
    made = make(database, tmp_path / "kept")
    tar = samples.unpack(tmp_path / "kept" / made.name)

    assert made.manifest.state_keys == 3
    assert made.manifest.state_bytes == sum(len(k) + len(v) for k, v in samples.STATE.items())
    assert made.manifest.state_version == 7
    assert made.manifest.open_tasks == 2
    assert b'{"key":"counter","version":1,"value":41}\n' in tar
    assert b'"id":"waits"' in tar
    assert b'"id":"works"' in tar
    assert b'"id":"done"' not in tar
    assert b'{"table":"events","task":5,"id":4,"attempt":2,"kind":"event","data":"item"}\n' in tar


def test_the_same_moment_gives_the_same_bytes(database: Path, tmp_path: Path) -> None:
    """Two snapshots of one state can be told to be so by their hash."""
    files = []
    for name in ("one", "two"):
        made = make(database, tmp_path / name)
        files.append((tmp_path / name / made.name).read_bytes())

    assert files[0] == files[1]


def test_a_snapshot_is_for_its_owner_alone(database: Path, tmp_path: Path) -> None:
    """It holds what callers have sent."""
    made = make(database, tmp_path / "kept")

    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "kept" / made.name).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [made.name]


def test_writes_of_later_are_not_in_it(database: Path) -> None:
    """A cut through one moment: a task's end and what it changed in the state are both in or not."""
    with viewing(database) as connection:
        change(database, "UPDATE state SET value = x'3432' WHERE key = 'counter'")
        change(database, "UPDATE tasks SET finished_at = 1, state = 'completed'")

        rows = connection.execute("SELECT value FROM state WHERE key = 'counter'").fetchall()
        assert rows == [(b"41",)]


@pytest.mark.parametrize(
    ("statement", "values", "said"),
    [
        (
            "UPDATE state SET value = ? WHERE key = 'wide'",
            [b'"sk-0123456789"'],
            "the state's key 'wide'",
        ),
        (
            "UPDATE state SET value = ? WHERE key = 'wide'",
            [b'[\n"sk-0123456789"]'],
            "the state's key 'wide'",
        ),
        (
            "UPDATE state SET key = ? WHERE key = 'wide'",
            ["x/sk-0123456789"],
            "(its name holds one)",
        ),
        (
            "UPDATE tasks SET input = ? WHERE id = 'waits'",
            [b'{"key": "sk-0123456789"}'],
            "the task 'waits'",
        ),
        (
            "UPDATE tasks SET input = ? WHERE id = 'waits'",
            [b'\n"sk-0123456789"'],
            "the task 'waits'",
        ),
        (
            "UPDATE tasks SET metadata = ? WHERE id = 'waits'",
            [b'{"k":"sk-0123456789"}'],
            "the task 'waits'",
        ),
        (
            "UPDATE tasks SET callback_url = ? WHERE id = 'waits'",
            ["https://h/?t=sk-0123456789"],
            "the task 'waits'",
        ),
        ("UPDATE events SET data = ? WHERE id = 4", [b'"sk-0123456789"'], "the task 'works'"),
    ],
)
def test_a_secret_is_named_by_its_place_and_not_told(
    database: Path, tmp_path: Path, statement: str, values: list[object], said: str
) -> None:
    """A snapshot travels further than the vault may."""
    change(database, statement, *values)
    with pytest.raises(SnapshotError) as caught:
        make(database, tmp_path / "kept")

    assert said in str(caught.value)
    assert "a secret of the vault" in str(caught.value)
    assert SECRET.decode() not in str(caught.value)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_secret_of_a_task_that_is_done_does_not_matter(database: Path, tmp_path: Path) -> None:
    """It is not in the snapshot."""
    change(database, "UPDATE tasks SET input = ? WHERE id = 'done'", b'"sk-0123456789"')

    assert make(database, tmp_path / "kept").manifest.open_tasks == 2


def test_what_could_not_be_restored_is_not_made(database: Path, tmp_path: Path) -> None:
    """A snapshot that fails when it is needed is worse than none."""
    change(database, "UPDATE state SET value = x'ff' WHERE key = 'wide'")
    with pytest.raises(SnapshotError, match="the state's key 'wide' has a value that is no JSON"):
        make(database, tmp_path / "kept")
    change(database, "DELETE FROM state")
    change(database, "DELETE FROM manifests")
    with pytest.raises(SnapshotError, match="the task 'waits' has a capability that is not there"):
        make(database, tmp_path / "kept")

    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("max_bytes", [100, 3000])
def test_a_snapshot_over_the_limit_is_refused(
    database: Path, tmp_path: Path, max_bytes: int
) -> None:
    """It could not be restored, for there the same limit holds."""
    with pytest.raises(SnapshotError, match=r"over (100|snapshots\.max_bytes \(3000\))"):
        make(database, tmp_path / "kept", max_bytes=max_bytes)

    assert list((tmp_path / "kept").iterdir()) == []


def test_a_snapshot_that_is_given_up_leaves_nothing(database: Path, tmp_path: Path) -> None:
    """A shutdown does not wait for it."""

    class GivenUpError(Exception):
        pass

    for steps in range(4):
        left = iter(range(steps))

        def check() -> None:
            if next(left, None) is None:  # noqa: B023 - called within the loop's turn
                raise GivenUpError

        with pytest.raises(GivenUpError):
            make(database, tmp_path / "kept", check=check)
        assert list((tmp_path / "kept").iterdir()) == []


def test_only_the_newest_stay(database: Path, tmp_path: Path) -> None:
    """A full disk is the usual end of backups."""
    names = [make(database, tmp_path / "kept").name for _ in range(5)]
    stays = {path.name for path in (tmp_path / "kept").iterdir()}

    assert len(stays) == 3
    assert names[-1] in stays


def test_a_damaged_journal_and_a_full_disk_are_told(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence each, whatever fails below."""

    def fail(*_arguments: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("kagent_sdk.snapshots.creation.Contents.__init__", fail)
    with pytest.raises(SnapshotError, match="the journal cannot be read: database disk image"):
        make(database, tmp_path / "kept")
    monkeypatch.undo()

    def fill_up(*_arguments: object, **_options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("kagent_sdk.snapshots.creation.write_archive", fill_up)
    with pytest.raises(SnapshotError, match="cannot be written: No space left on device"):
        make(database, tmp_path / "kept")

    assert list((tmp_path / "kept").iterdir()) == []


class TestTheCache:
    """``runtime/cache``, which the author's code may change at any time."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        """Return a cache with a file."""
        cache = tmp_path / "origin" / "runtime" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "file").write_bytes(b"content")
        return cache

    def names(self, made: Made) -> list[str]:
        """Return what of the cache is in a snapshot."""
        return [member.name for member in made.manifest.members[2:]]

    def test_links_and_special_files_stay_outside(
        self, database: Path, cache: Path, tmp_path: Path
    ) -> None:
        """A link could point at the vault; a pipe would never end."""
        (cache / "link").symlink_to(database)
        (cache / "folder").symlink_to(tmp_path)
        os.mkfifo(cache / "pipe")
        (cache / "bad\\name").write_bytes(b"x")
        (cache / "empty").mkdir()
        made = make(database, tmp_path / "kept", cache=cache)

        assert self.names(made) == ["cache/file"]
        assert made.skipped == 4

    def test_files_come_in_the_order_of_their_names(
        self, database: Path, cache: Path, tmp_path: Path
    ) -> None:
        """The same cache gives the same bytes, whatever order the disk has."""
        for name in ("z", "a/b", "a.txt", "é"):
            (cache / name).parent.mkdir(exist_ok=True)
            (cache / name).write_bytes(name.encode())
        made = make(database, tmp_path / "kept", cache=cache)

        assert self.names(made) == ["cache/a.txt", "cache/a/b", "cache/file", "cache/z", "cache/é"]
        assert parse_manifest(made.manifest.to_bytes()) == made.manifest

    @pytest.mark.parametrize("size", [0, 256 * 1024 - 5, 600_000])
    def test_a_secret_in_a_file_is_found_across_chunks(
        self, database: Path, cache: Path, tmp_path: Path, size: int
    ) -> None:
        """Libraries like to write down what they were given."""
        (cache / "token").write_bytes(bytes(size) + SECRET + b"tail")
        with pytest.raises(SnapshotError, match="the file 'token' in runtime/cache holds a secret"):
            make(database, tmp_path / "kept", cache=cache)

    def test_no_cache_is_an_empty_one(self, database: Path, tmp_path: Path) -> None:
        """An agent that never had one is no error."""
        assert self.names(make(database, tmp_path / "kept", cache=tmp_path / "nothing")) == []

    def test_a_cache_that_is_a_link_is_refused(self, database: Path, tmp_path: Path) -> None:
        """It would lead anywhere."""
        (tmp_path / "cache").symlink_to("/etc")
        with pytest.raises(SnapshotError, match="runtime/cache is not a folder"):
            make(database, tmp_path / "kept", cache=tmp_path / "cache")

    def test_too_many_files_are_refused(
        self, database: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bounded, as everything that the author's code can fill."""
        monkeypatch.setattr("kagent_sdk.snapshots.cache_files.MAX_CACHE_FILES", 3)
        for number in range(3):
            (cache / str(number)).touch()
        with pytest.raises(SnapshotError, match="more than 3 files"):
            make(database, tmp_path / "kept", cache=cache)
        for number in range(20):
            (cache / str(number)).touch()
        with pytest.raises(SnapshotError, match="has too much in it"):
            make(database, tmp_path / "kept", cache=cache)

    def test_a_file_that_is_replaced_by_a_link_is_not_followed(
        self, database: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The author's code runs on while the cache is read."""
        real = os.open
        (cache / "folder").mkdir()
        (cache / "folder" / "inner").write_bytes(b"x")

        def race(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if path == "file":
                (cache / "file").unlink()
                (cache / "file").symlink_to(database)
            if path == "inner":
                (cache / "folder" / "inner").unlink()
                os.mkfifo(cache / "folder" / "inner")
            return real(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr("kagent_sdk.snapshots.cache_files.os.open", race)
        made = make(database, tmp_path / "kept", cache=cache)

        assert self.names(made) == []
        assert made.skipped == 2


def test_an_agent_without_anything_can_be_snapshot(tmp_path: Path) -> None:
    """The first snapshot may come before the first task."""
    path = tmp_path / "empty" / "journal.db"
    path.parent.mkdir()
    open_database(path, "process", now_s=NOW_S).close()
    made = snapshot_of(path, tmp_path / "kept")

    assert (made.manifest.state_keys, made.manifest.open_tasks) == (0, 0)

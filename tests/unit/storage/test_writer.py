"""A database that does not take writes: what waits, what is refused, and how it ends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.errors import StorageError
from kagent_sdk.storage import database, writer
from kagent_sdk.storage.database import suspect_mark
from kagent_sdk.storage.groups import Work
from kagent_sdk.storage.thread import Storage
from kagent_sdk.storage.writer import Writer
from tests.unit.storage.databases import (
    NOW_S,
    Gate,
    disk_fault,
    files_in,
    names,
    opened,
    opened_storage,
    put,
    read_names,
)

LARGE = b"\0" * 1_000_000


class Trouble:
    """What a storage says of its database, to be waited for."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []
        self._news = asyncio.Event()

    def hear(self, trouble: str | None) -> None:
        """Note what the storage says."""
        self.heard.append(trouble)
        self._news.set()

    async def wait_over(self) -> None:
        """Return when the last that was said is that there is none."""
        while not self.heard or self.heard[-1] is not None:
            self._news.clear()
            await self._news.wait()


def fill(connection: sqlite3.Connection) -> None:
    """Leave no room in the database: SQLite then fails as on a full disk."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def make_room(connection: sqlite3.Connection) -> None:
    """Undo `fill`."""
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()


async def test_what_need_not_be_written_is_refused_while_the_disk_is_full(tmp_path: Path) -> None:
    """A caller that hears no can go elsewhere; and the rest of its group has room."""
    troubles: list[str | None] = []
    async with opened_storage(tmp_path / "journal.db", troubles=troubles) as storage:
        await storage.read(fill)
        async with Gate(storage):
            large, small = storage.write(put("large", LARGE)), storage.write(put("small"))

        with pytest.raises(StorageError, match="disk is full") as caught:
            await large
        await small
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert await storage.read(names) == ["small"]
        assert troubles[0] == "the journal cannot be written or read: database or disk is full"


async def test_what_must_be_written_is_when_there_is_room_again(tmp_path: Path) -> None:
    """A result that was computed is not lost because a disk was full for a while, nor reordered."""
    trouble = Trouble()
    path = tmp_path / "journal.db"
    storage = Storage(path, "process", on_trouble=trouble.hear)
    await storage.open()
    await storage.read(fill)
    first = storage.write(put("1 first", LARGE), must=True)
    second = storage.write(put("2 second"), must=True)
    await storage.write(put("small"))
    assert await storage.read(names) == ["small"]
    assert storage.trouble is not None
    assert not first.done()
    assert not second.done()

    await storage.read(make_room)
    await asyncio.gather(first, second)
    await trouble.wait_over()
    assert await storage.read(names) == ["1 first", "2 second", "small"]
    await storage.aclose()
    assert read_names(path) == ["1 first", "2 second", "small"]


async def test_what_must_be_written_keeps_its_order(tmp_path: Path) -> None:
    """A task's end must not overtake its start."""
    trouble = Trouble()
    done: list[int] = []
    storage = Storage(tmp_path / "journal.db", "process", on_trouble=trouble.hear)
    await storage.open()
    await storage.read(fill)
    async with Gate(storage):
        works = [storage.write(put("0000", LARGE), must=True)]
        works += [storage.write(put(f"{number:04}"), must=True) for number in range(1, 600)]
        for number, work in enumerate(works):
            work.add_done_callback(partial(_note, done, number))
    await storage.write(put("meanwhile"))
    assert done == []

    await storage.read(make_room)
    await asyncio.gather(*works)
    await trouble.wait_over()
    assert done == list(range(600))
    await storage.aclose()


async def test_one_that_never_fits_keeps_those_before_it(tmp_path: Path) -> None:
    """What could be written is: only what comes after the one in trouble waits."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        await storage.read(fill)
        async with Gate(storage):
            before = storage.write(put("before"), must=True)
            large = storage.write(put("large", LARGE), must=True)
            after = storage.write(put("after"), must=True)
        await before
        closing = asyncio.create_task(storage.aclose())

        with pytest.raises(StorageError, match="closed before it could be written"):
            await large
        with pytest.raises(StorageError, match="closed before it could be written"):
            await after
        await closing
    assert read_names(tmp_path / "journal.db") == ["before"]


async def test_trouble_ends_by_itself(tmp_path: Path) -> None:
    """A host that refuses tasks while there is trouble would otherwise never find out."""
    trouble = Trouble()
    storage = Storage(tmp_path / "journal.db", "process", on_trouble=trouble.hear)
    await storage.open()
    with pytest.raises(StorageError, match="disk I/O error"):
        await storage.write(_raise_once(disk_fault(sqlite3.SQLITE_IOERR, "disk I/O error")))
    await trouble.wait_over()

    assert trouble.heard[0] == "the journal cannot be written or read: disk I/O error"
    assert storage.trouble is None
    await storage.aclose()


async def test_a_fault_that_lasts_is_tried_again_and_again(tmp_path: Path) -> None:
    """The third time counts as well as the first, and takes longer to come."""
    trouble = Trouble()
    storage = Storage(tmp_path / "journal.db", "process", on_trouble=trouble.hear)
    await storage.open()
    fault = disk_fault(sqlite3.SQLITE_IOERR, "disk I/O error")
    async with Gate(storage):
        stuck = storage.write(_raise_once(fault, times=3), must=True)
        later = storage.write(put("later"), must=True)
    await asyncio.gather(stuck, later)
    await trouble.wait_over()

    assert await storage.read(names) == ["later", "raised"]
    await storage.aclose()


async def test_reads_are_answered_while_another_process_keeps_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody works on the file with the sqlite3 command: tasks must still be readable."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.02)
    trouble = Trouble()
    path = tmp_path / "journal.db"
    storage = Storage(path, "process", on_trouble=trouble.hear)
    await storage.open()
    await storage.write(put("a"))
    with locked(path):
        async with Gate(storage):
            refused = storage.write(put("b"))
            stuck = storage.write(put("c"), must=True)
            seen = storage.read(names)
        with pytest.raises(StorageError, match="locked"):
            await refused
        assert await seen == ["a"]
        assert not stuck.done()
    await stuck
    await trouble.wait_over()

    assert await storage.read(names) == ["a", "c"]
    await storage.aclose()


async def test_damage_is_remembered_for_the_next_start(tmp_path: Path) -> None:
    """A page that turned to garbage: the agent says so at once, and the next start puts it aside."""
    path = tmp_path / "journal.db"
    async with opened_storage(path) as storage:
        await storage.write(put("a"))
    _overwrite_root(path, "events")

    troubles: list[str | None] = []
    async with opened_storage(path, troubles=troubles) as storage:
        with pytest.raises(StorageError, match="malformed"):
            await storage.read(lambda connection: connection.execute("SELECT * FROM events"))
        await storage.write(put("still taken"))
        assert storage.trouble is not None
        assert "the next start checks it" in storage.trouble
        assert suspect_mark(path).exists()
    assert None not in troubles

    again = Storage(path, "process", clock=lambda: NOW_S)
    report = await again.open()
    await again.aclose()
    assert report.is_new
    assert report.quarantined == "journal.db.corrupt-20250615T150640"
    assert not suspect_mark(path).exists()


async def test_a_suspicion_that_was_wrong_costs_nothing(tmp_path: Path) -> None:
    """Memory errs too: a file that proves whole stays, with all that is in it."""
    path = tmp_path / "journal.db"
    async with opened_storage(path) as storage:
        await storage.write(put("a"))
        with pytest.raises(StorageError, match="malformed"):
            await storage.write(_raise_once(disk_fault(sqlite3.SQLITE_CORRUPT, "malformed")))
    assert suspect_mark(path).exists()

    with opened(path) as checked:
        assert checked.quarantined is None
    assert not suspect_mark(path).exists()
    assert read_names(path) == ["a"]


async def test_a_mark_that_cannot_be_made_is_no_second_fault(tmp_path: Path) -> None:
    """The disk that damaged the file may refuse the mark too."""
    path = tmp_path / "journal.db"
    async with opened_storage(path) as storage:
        suspect_mark(path).symlink_to(tmp_path / "no" / "such" / "folder")
        with pytest.raises(StorageError, match="malformed"):
            await storage.write(_raise_once(disk_fault(sqlite3.SQLITE_CORRUPT, "malformed")))

        assert storage.trouble is not None
        suspect_mark(path).unlink()


async def test_damage_in_memory_leaves_no_mark(tmp_path: Path) -> None:
    """There is no next start for what is gone with the process."""
    async with opened_storage(tmp_path / "journal.db", durability="none") as storage:
        with pytest.raises(StorageError, match="malformed"):
            await storage.write(_raise_once(disk_fault(sqlite3.SQLITE_CORRUPT, "malformed")))

    assert files_in(tmp_path) == []


def _note(done: list[int], number: int, _work: object) -> None:
    done.append(number)


class StubbornLog(sqlite3.Connection):
    """A connection whose log cannot be folded into the file while `is_stubborn`."""

    is_stubborn = True

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Execute; a checkpoint fails as on a disk that errs."""
        if self.is_stubborn and sql.startswith("PRAGMA wal_checkpoint"):
            raise disk_fault(sqlite3.SQLITE_IOERR, "disk I/O error")
        return super().execute(sql, *arguments)


async def test_a_log_that_only_grows_is_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits go on where checkpoints fail, and SQLite says nothing until the disk is full."""
    monkeypatch.setattr(writer, "LOG_ALARM_BYTES", 1)
    path = tmp_path / "journal.db"
    with opened(path):
        pass
    heard: list[str | None] = []
    connection = sqlite3.connect(path, isolation_level=None, factory=StubbornLog)
    with closing(connection):
        subject = Writer(
            connection, path, tell=lambda _works: None, on_trouble=heard.append, clock=lambda: NOW_S
        )
        for number in range(writer.LOOK_EVERY_GROUPS):
            assert heard == []
            subject.take([_work(put(f"{number:04}"))], is_last=False)
        assert heard == ["the journal cannot be written or read: disk I/O error"]
        subject.take([_work(put("taken"))], is_last=False)
        assert len(heard) == 1

        connection.is_stubborn = False
        subject.take([_work(put("well"))], is_last=False)
    assert heard[1:] == [None]


def _work(operation: Callable[[sqlite3.Connection], None]) -> Work:
    return Work(operation, asyncio.get_running_loop().create_future())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the write lock, as another program might."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")
    finally:
        other.close()


def _raise_once(error: Exception, times: int = 1) -> Callable[[sqlite3.Connection], None]:
    left = [error] * times

    def operation(connection: sqlite3.Connection) -> None:
        put("raised")(connection)
        if left:
            raise left.pop()

    return operation


def _overwrite_root(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)

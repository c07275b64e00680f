"""Reading one moment while others write, without holding them up or filling the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from kagent_sdk.errors import StorageError
from kagent_sdk.storage import views
from kagent_sdk.storage.database import WAL_LIMIT_BYTES, log_of
from kagent_sdk.storage.thread import Storage
from tests.unit.storage.databases import names, opened_storage, put


@contextmanager
def looking(storage: Storage) -> Iterator[sqlite3.Connection]:
    """Enter a view in this thread: the loop has nothing else to do."""
    with storage.view() as connection:
        yield connection


async def test_what_a_view_sees_stands_still(tmp_path: Path) -> None:
    """A snapshot is one moment: tasks go on being written while it is read."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        await storage.write(put("a"))
        with looking(storage) as connection:
            await storage.write(put("b"))

            assert names(connection) == ["a"]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                put("c")(connection)
        assert await storage.read(names) == ["a", "b"]


async def test_a_view_in_memory_does_not_wait_for_writers() -> None:
    """SQLite's own backup waits for ever for a transaction of the connection that it copies."""

    def look(storage: Storage) -> list[str]:
        with storage.view() as connection:
            connection.execute("DELETE FROM outbox")  # a copy: nobody is disturbed
            return names(connection)

    async def write(storage: Storage, writer: int) -> None:
        for number in range(50):
            await storage.write(put(f"{writer}-{number:04}"))

    async with opened_storage(None, durability="none") as storage:
        writers = [asyncio.create_task(write(storage, writer)) for writer in range(8)]
        seen = [await asyncio.to_thread(look, storage) for _ in range(10)]
        await asyncio.gather(*writers)
        last = await asyncio.to_thread(look, storage)

    assert len(last) == 400
    assert all(set(earlier) <= set(later) for earlier, later in pairwise(seen))


async def test_a_view_that_lasts_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot be reused while someone looks at an old moment: it would fill the disk."""
    limit_bytes = 1024 * 1024
    monkeypatch.setattr(views, "VIEW_GROWTH_BYTES", limit_bytes)
    path = tmp_path / "journal.db"

    async def read_slowly(storage: Storage) -> None:
        with storage.view() as connection:
            for number in range(1000):
                connection.execute("SELECT sum(length(value)) FROM meta").fetchone()
                connection.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) "
                    "SELECT max(i) FROM n"
                ).fetchone()
                await storage.write(put(f"{number:04}", b"\0" * 40_000))

    async with opened_storage(path) as storage:
        with pytest.raises(StorageError, match=r"journal\.db was given up"):
            await read_slowly(storage)
        grown_bytes = log_of(path).stat().st_size
        # More than one checkpoint's worth: the log begins again at its start.
        for number in range(300):
            await storage.write(put(f"later-{number:04}", b"\0" * 40_000))

        assert limit_bytes < grown_bytes < 2 * limit_bytes
        assert log_of(path).stat().st_size < WAL_LIMIT_BYTES


async def test_other_interruptions_of_a_view_are_passed_on(tmp_path: Path) -> None:
    """A wrong statement is the reader's own mistake, and must look like one."""
    async with opened_storage(tmp_path / "journal.db") as storage:
        with pytest.raises(sqlite3.OperationalError, match="nonsense"), looking(storage) as view:
            view.execute("SELECT nonsense FROM meta")


async def test_a_view_of_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """It must not make an empty one, and back that up."""
    async with opened_storage(tmp_path / "journal.db"):
        pass

    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        views.open_reader(tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


async def test_a_close_does_not_wait_for_a_view(tmp_path: Path) -> None:
    """A snapshot that is still being written must not eat the shutdown's budget."""
    path = tmp_path / "journal.db"
    storage = Storage(path, "process")
    await storage.open()
    await storage.write(put("a"))
    with looking(storage) as connection:
        await asyncio.wait_for(storage.aclose(), 4.0)

        assert names(connection) == ["a"]
    async with opened_storage(path) as again:
        assert await again.read(names) == ["a"]

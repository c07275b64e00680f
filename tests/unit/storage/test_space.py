"""Disk space comes back after retention, a little at a time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kagent_sdk.storage.database import log_of
from kagent_sdk.storage.space import fold_log, settle_size, shrink
from tests.unit.storage.databases import names, opened, opened_storage, put, read_names


async def test_the_file_shrinks_in_small_steps(tmp_path: Path) -> None:
    """A month of tasks is deleted: the disk is free again, and no task waited long for it."""
    path = tmp_path / "journal.db"
    async with opened_storage(path) as storage:
        for number in range(40):
            await storage.write(put(f"{number:04}", b"\0" * 100_000))
        await storage.write(
            lambda connection: connection.execute("DELETE FROM meta WHERE name < 'a'")
        )
        steps = [await storage.write(lambda connection: shrink(connection, 300))]
        while steps[-1]:
            steps.append(await storage.write(lambda connection: shrink(connection, 300)))

    assert len(steps) == 4
    assert steps[0] - steps[1] == pytest.approx(300, abs=3)  # but for pages that map pages
    assert path.stat().st_size < 200_000
    assert not log_of(path).exists()


def test_there_may_be_nothing_to_give_back(tmp_path: Path) -> None:
    """Retention asks every time."""
    with opened(tmp_path / "journal.db") as made:
        assert shrink(made.connection, 100) == 0


def test_a_log_is_folded_into_its_file(tmp_path: Path) -> None:
    """A copy of the one file is then whole; a reader only puts it off."""
    path = tmp_path / "journal.db"
    with opened(path) as made, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        put("a")(made.connection)
        reader.execute("BEGIN")
        assert names(reader) == ["a"]
        put("b")(made.connection)
        assert not fold_log(made.connection)
        reader.execute("COMMIT")
        assert fold_log(made.connection)
        assert log_of(path).stat().st_size == 0

    assert read_names(path) == ["a", "b"]


def test_a_size_is_settled_between_transactions_alone(tmp_path: Path) -> None:
    """SQLite folds nothing inside a transaction, and says so with an error."""
    path = tmp_path / "journal.db"
    with opened(path) as made:
        put("a")(made.connection)
        before = path.stat().st_size
        made.connection.execute("BEGIN IMMEDIATE")
        assert not settle_size(made.connection)
        assert path.stat().st_size == before
        made.connection.execute("COMMIT")

        assert settle_size(made.connection)

        assert path.stat().st_size > before


def test_a_log_that_cannot_be_folded_is_left(tmp_path: Path) -> None:
    """It is on disk as it is: the next start reads it."""
    with opened(tmp_path / "journal.db") as made:
        made.connection.execute("BEGIN")
        put("a")(made.connection)

        assert not fold_log(made.connection)
        made.connection.execute("COMMIT")

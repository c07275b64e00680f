"""Journals that benchmarks fill with SQL must be what an agent would have written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from rig.contenders import OUTPUT
from rig.journals import KEY, VALUE_BYTES, fill

from kagent_sdk.config.models import TasksConfig
from kagent_sdk.host.durability import build_journal
from kagent_sdk.state.store import get, usage
from kagent_sdk.storage.thread import Storage


async def test_tasks_of_a_filled_journal_are_found(tmp_path: Path) -> None:
    """A start that reads less than it would of a real journal measures nothing."""
    path = tmp_path / "journal.db"
    fill(str(path), tasks=3, keys=0)
    storage = Storage(path, "process")
    journal = build_journal(storage, TasksConfig(), apply_state=lambda _c, _t: 0)
    await storage.open()
    unfinished, last_sequence = await journal.open()
    found = await journal.recall("filled-3")
    await storage.aclose()

    assert (unfinished, last_sequence, journal.kept) == ([], 3, 3)
    assert found is not None
    assert json.loads(found.document())["output"] == OUTPUT


def test_keys_of_a_filled_journal_count(tmp_path: Path) -> None:
    """The totals are those of the keys: a quota that is wrong would refuse the measured change."""
    path = tmp_path / "journal.db"
    fill(str(path), tasks=0, keys=2)
    with closing(sqlite3.connect(path)) as connection:
        item = get(connection, KEY.format(1), 0)
        totals = usage(connection)

    assert item is not None
    assert item.value is not None
    assert len(item.value) == VALUE_BYTES
    assert (totals.keys, totals.used_bytes) == (2, 2 * (len(KEY.format(1)) + VALUE_BYTES))

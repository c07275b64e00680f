"""The journal on disk while a host starts: the database and the workers come in any order."""

from __future__ import annotations

import time
from pathlib import Path

from kagent_sdk.config.models import TasksConfig
from kagent_sdk.host.durability import build_journal
from kagent_sdk.host.task import Submission, Task
from kagent_sdk.journal.durable import DurableJournal
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.storage.thread import Storage


async def test_capabilities_that_came_before_the_database_are_kept(tmp_path: Path) -> None:
    """A task whose capability is not known any more counts as dangerous to run again."""
    manifest = CapabilityManifest(name="again", idempotent=True, input_schema={}, output_schema={})
    storage, journal = _make(tmp_path)
    journal.declare([manifest])
    await storage.open()
    await journal.open()
    submission = Submission("one", "again", b"{}", kept=True)
    task = Task(submission, manifest, created_at=time.time(), sequence=1)
    task.is_durable = True
    kept = journal.accepted(task)
    assert kept is not None
    await kept
    await storage.aclose()

    storage, journal = _make(tmp_path)
    await storage.open()
    (found,), last_sequence = await journal.open()
    await storage.aclose()

    assert (found.id, last_sequence) == ("one", 1)
    assert found.capability == manifest


def _make(folder: Path) -> tuple[Storage, DurableJournal]:
    storage = Storage(folder / "journal.db", "process")
    return storage, build_journal(storage, TasksConfig(), apply_state=lambda _c, _t: 0)

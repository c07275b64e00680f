"""A start that is not on disk yet: what happens to the task meanwhile."""

from __future__ import annotations

from pathlib import Path

from kagent_sdk.config.models import AgentConfig, TasksConfig
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.durability import build_journal
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.task import Submission
from kagent_sdk.host.task_failures import timeout_failure
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.durable import DurableJournal
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.storage.thread import Storage

MANIFEST = CapabilityManifest(name="echo", input_schema={}, output_schema={})


async def test_a_task_that_ends_before_its_start_is_on_disk_tells_one_story(tmp_path: Path) -> None:
    """Its document is the same before a restart of the host and after it, attempts included."""
    storage, journal = _make(tmp_path)
    await storage.open()
    engine = Engine(AgentConfig(), journal, Counters(), lambda _worker, _reason: None)
    await journal.open()
    await engine.recover([], 0)
    engine.gate = None
    worker = WorkerConnection(
        limit_bytes=1, places=1, handlers={}, on_room=lambda: None, on_lost=lambda *_: None
    )
    worker.is_open, worker.capabilities = False, {"echo": 0}
    engine.succeed([worker], {"echo": MANIFEST})
    task = engine.submit(Submission("one", "echo", b"{}", kept=True))
    assert task.safe is not None
    await task.safe
    worker.is_open = True
    engine.dispatcher.settle()
    assert task.attempt == 1
    engine.give_up(task, timeout_failure(1))
    await task.wait()
    shown = task.document()
    await engine.aclose(1)
    await storage.aclose()

    storage, journal = _make(tmp_path)
    await storage.open()
    await journal.open()
    found = await journal.recall("one")
    await storage.aclose()

    assert found is not None
    assert found.document() == shown == task.document()


def _make(folder: Path) -> tuple[Storage, DurableJournal]:
    storage = Storage(folder / "journal.db", "process")
    return storage, build_journal(storage, TasksConfig(), apply_state=lambda _c, _t: 0)

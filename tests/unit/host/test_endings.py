"""What becomes of a task whose end the journal does not take any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config.models import AgentConfig, TasksConfig
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.durability import build_journal
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.task import Submission
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.protocol.tasks import ErrorCode, TaskState
from kagent_sdk.storage.thread import Storage


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_task_is_left_to_the_next_host_only_if_that_knows_of_it(
    tmp_path: Path, *, is_durable: bool
) -> None:
    """A caller of a plain call must not be told to come back: nobody will know the task."""
    storage = Storage(tmp_path / "journal.db", "process")
    journal = build_journal(storage, TasksConfig(), apply_state=lambda *_: 1)
    await storage.open()
    engine = Engine(AgentConfig(), journal, Counters(), lambda *_: None)
    await journal.open()
    await engine.recover([], 0)
    engine.gate = None
    worker = WorkerConnection(
        limit_bytes=1, places=1, handlers={}, on_room=lambda: None, on_lost=lambda *_: None
    )
    worker.is_open, worker.capabilities = True, {"echo": 0}
    manifest = CapabilityManifest(name="echo", input_schema={}, output_schema={})
    engine.succeed([worker], {"echo": manifest})
    task = engine.submit(Submission("one", "echo", b"{}", kept=is_durable))
    if task.safe is not None:
        await task.safe
    await storage.aclose()

    engine.release(worker, task.number)
    task.transaction = Transaction(writes=(Write("key", b"1"),))
    engine.complete(task, b"1")
    await task.wait()

    if is_durable:
        assert task.is_left
    else:
        assert task.state is TaskState.FAILED
        assert task.failure is not None
        assert task.failure.code == ErrorCode.JOURNAL_UNAVAILABLE
    await engine.aclose(1)

"""An engine with one worker that does nothing by itself, for the unit tests of the link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.config.models import AgentConfig, TasksConfig
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.durability import build_journal, doubt_leases
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.link_intake import LinkIntake
from kagent_sdk.host.link_reports import LinkReports
from kagent_sdk.host.task import Submission, Task
from kagent_sdk.host.task_failures import crash_failure
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.journal.durable import DurableJournal
from kagent_sdk.link.port import Report
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.storage.thread import Storage

ECHO = CapabilityManifest(name="echo", input_schema={}, output_schema={}, durable=False)
SAFE = CapabilityManifest(name="safe", input_schema={}, output_schema={}, idempotent=True)
STREAM = CapabilityManifest(name="tail", input_schema={}, output_schema={}, streams=True)
OLD, NEW = "lease-old-0123456789", "lease-new-0123456789"


@dataclass
class LinkBench:
    """What the link of a host is made of."""

    storage: Storage
    journal: DurableJournal
    engine: Engine
    worker: WorkerConnection
    intake: LinkIntake
    box: LinkReports

    async def take(self, task_id: str = "t1", lease: str = OLD, *, input: bytes = b"{}") -> Task:
        """Take an offer."""
        return await self.intake.admit(
            Submission(task_id, "echo", input, kept=True, lease=lease, hops=2)
        )

    def complete(self, task: Task, output: bytes = b'"done"') -> None:
        """End a task as its worker does."""
        assert self.engine.release(self.worker, task.number) is task
        self.engine.complete(task, output)

    def end_cancelled(self, task: Task) -> None:
        """End the attempt of a cancelled task as its worker does."""
        assert self.engine.release(self.worker, task.number) is task
        self.engine.fail(task, crash_failure("test"))

    async def reports(self) -> list[Report]:
        """Return all that waits to be told."""
        return await self.box.first(1000, 10**9)

    def held(self) -> list[tuple[str, str | None]]:
        """Return the tasks that the agent says that it has."""
        held = {record.id: record.lease for record in self.intake.open_tasks()}
        return sorted((held | {one.task: one.lease for one in self.box.results()}).items())


@asynccontextmanager
async def link_bench(folder: Path) -> AsyncIterator[LinkBench]:
    """Open a host's engine, journal and link in a folder."""
    storage = Storage(folder / "journal.db", "process")
    journal = build_journal(storage, TasksConfig(), apply_state=lambda _c, _t: 0)
    await storage.open()
    engine = Engine(AgentConfig(), journal, Counters(), lambda _worker, _reason: None)
    manifests = {one.name: one for one in (ECHO, SAFE, STREAM)}
    journal.declare(manifests.values())
    records, last = await journal.open()
    box = LinkReports(storage)
    journal.listeners["link"] = box.note
    tasks = [one for one in records if isinstance(one, Task)]
    doubt_leases(tasks)
    await engine.recover(tasks, last)
    await box.open()
    intake = LinkIntake(engine, journal)
    intake.recover()
    worker = WorkerConnection(
        limit_bytes=1, places=2, handlers={}, on_room=lambda: None, on_lost=lambda *_: None
    )
    worker.capabilities = {"echo": 0, "safe": 1, "tail": 2}
    worker.is_open = True
    engine.gate = None
    engine.succeed([worker], manifests)
    try:
        yield LinkBench(storage, journal, engine, worker, intake, box)
    finally:
        await engine.aclose(1)
        await storage.aclose()

"""The agent's database over the life of a host: opened behind the start, closed as the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from kagent_sdk.config.models import TasksConfig
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.task import Task
from kagent_sdk.journal.durable import ApplyState, DurableJournal, EventBounds
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.journal.retention import Retention
from kagent_sdk.storage.thread import OpenReport, Storage

JOURNAL = Path("runtime/journal.db")
"""In the agent's folder."""


class Durability:
    """Opens the database, gives the engine what the host before has left, and closes it in the end.

    Args:
        storage: the database.
        journal: on it.
        state: on it too.
        engine: takes no tasks before it has recovered.
        pump: told of trouble.
        on_change: called when tasks can be taken.

    Attributes:
        has_link: there is an orchestrator, which confirms the leases of tasks; set before `run`.
        opened: set when the database is open.
    """

    def __init__(
        self,
        storage: Storage,
        journal: DurableJournal,
        state: StateKeeper,
        *,
        engine: Engine,
        pump: LogPump,
        on_change: Callable[[], None],
    ) -> None:
        self.has_link = False
        self.storage = storage
        self.journal = journal
        self.state = state
        self.engine = engine
        self._pump = pump
        self._on_change = on_change
        self.opened = asyncio.Event()
        self.report: OpenReport | None = None

    async def run(self) -> None:
        """Open the database and recover; then look after the state until cancelled.

        Raises:
            StorageError: the database cannot be opened or read.
        """
        self.report = report = await self.storage.open()
        if report.quarantined is not None:
            self._pump.log(
                "error",
                "journal_quarantined",
                file=report.quarantined,
                detail="the journal was damaged: it is put aside, its tasks are not known any more",
            )
        await self.state.open(report)
        records, last_sequence = await self.journal.open()
        tasks = [record for record in records if isinstance(record, Task)]
        if self.has_link:
            doubt_leases(tasks)
        await self.engine.recover(tasks, last_sequence)
        if tasks:
            unconfirmed = len(self.engine.dispatcher.queue.unconfirmed)
            self._pump.log("info", "tasks_recovered", count=len(tasks), unconfirmed=unconfirmed)
        self._on_change()
        self.opened.set()
        await self.state.run()

    def note_trouble(self, trouble: str | None) -> None:
        """Log what the storage says of itself."""
        if trouble is None:
            self._pump.log("info", "journal_recovered")
        else:
            self._pump.log("error", "journal_failed", detail=trouble)

    async def aclose(self, within_s: float) -> None:
        """Write the state's file if there is time, what else can be written, and close the database."""
        try:
            async with asyncio.timeout(within_s):
                await self.state.export_now()
        except TimeoutError:
            self._pump.log("warning", "state_not_exported", detail="the shutdown left no time")
        await self.storage.aclose()


def doubt_leases(tasks: Iterable[Task]) -> None:
    """Let tasks of the link wait until the orchestrator has confirmed their leases.

    While no host was there they may have been given to others, or their callers may have been told
    that they are lost. Those that may run twice wait for a while only, see
    `kagent_sdk.host.link_intake`.
    """
    for task in tasks:
        task.is_unconfirmed = task.lease is not None


def build_journal(
    storage: Storage, config: TasksConfig, *, apply_state: ApplyState
) -> DurableJournal:
    """Return the journal of an agent; nothing is opened."""
    bounds = (config.retention_s, config.retention_count, config.retention_bytes)
    return DurableJournal(
        storage,
        MemoryJournal(
            retention_s=config.retention_s,
            retention_count=config.retention_count,
            retention_bytes=config.retention_bytes,
        ),
        Retention(*bounds),
        EventBounds(config.max_events, config.max_event_bytes),
        build=Task.revive,
        apply_state=apply_state,
    )

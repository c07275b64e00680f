"""The port through which the task engine keeps its tasks.

`kagent_sdk.journal.memory` keeps them in memory, `kagent_sdk.journal.durable` on disk. What is not
safe at once is answered with a receipt; the engine acknowledges nothing before that is settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kagent_sdk.journal.events import Event
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.state import Transaction
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.storage.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Query:
    """Which tasks to list, the newest first.

    Attributes:
        state, capability: only such tasks; None for all.
        after: the id of the last task of the page before.
    """

    state: TaskState | None = None
    capability: str | None = None
    limit: int = 100
    after: str | None = None

    def admits(self, record: TaskRecord) -> bool:
        """Whether a task is asked for, wherever the page begins."""
        return self.state in (None, record.state) and self.capability in (
            None,
            record.capability.name,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks without their outputs, and the id to go on after; None when these were the last."""

    records: list[TaskRecord]
    following: str | None


class Journal(Protocol):
    """Keeps tasks by id. All calls come from the host's event loop and never block it."""

    def declare(self, manifests: Iterable[CapabilityManifest]) -> None:
        """Keep the capabilities that tasks may name from now on."""
        ...

    def accepted(self, record: TaskRecord) -> Receipt | None:
        """Keep a new task as it is now. None: it is as safe as it will be.

        Raises (the receipt):
            StorageError: it was not taken; the task is forgotten.
        """
        ...

    def started(self, record: TaskRecord) -> Receipt | None:
        """Note that a worker is about to be given a task; wait for it before that is done."""
        ...

    def requeued(self, record: TaskRecord) -> None:
        """Note that a task waits for a worker again."""
        ...

    def event(self, record: TaskRecord, event: Event) -> Receipt | None:
        """Keep an event; wait for it before it is shown."""
        ...

    def end(
        self, record: TaskRecord, ending: Ending, transaction: Transaction | None
    ) -> Receipt | None:
        """Keep a task's end, and in one step with it what the task changed in the state.

        Raises (the receipt):
            StateConflictError: others changed what the task had read; nothing was kept.
            StateQuotaError: the state would grow over its quota; nothing was kept.
            StorageError: the journal was closed before.
        """
        ...

    def ended(self, record: TaskRecord) -> None:
        """Take note that the record shows its end now."""
        ...

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or that ended a short while ago."""
        ...

    async def recall(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or that ended and is still retained."""
        ...

    async def page(self, query: Query) -> Page:
        """Return tasks, the newest first."""
        ...

    def expire(self, now_s: float) -> None:
        """Let go of finished tasks past their retention."""
        ...

    def configure(self, *, retention_s: float, retention_count: int, retention_bytes: int) -> None:
        """Change how long, how many, and how many bytes of finished tasks stay."""
        ...

    @property
    def kept(self) -> int:
        """How many tasks are kept, open ones included."""
        ...

    @property
    def kept_bytes(self) -> int:
        """Roughly how many bytes the finished ones hold."""
        ...

"""The port through which the task engine keeps its tasks.

`kagent_sdk.journal.memory` implements it in memory. A durable journal answers `accepted` and
`finished` with an awaitable; the engine acknowledges nothing before that has completed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Protocol

from kagent_sdk.journal.record import TaskRecord


class Journal(Protocol):
    """Keeps tasks by id. All calls come from the host's event loop and never block it."""

    def accepted(self, record: TaskRecord) -> Awaitable[None] | None:
        """Keep a new task. Returns None when it is already safe, else what to wait for."""
        ...

    def finished(self, record: TaskRecord) -> Awaitable[None] | None:
        """Keep a task's end. Returns None when it is already safe, else what to wait for."""
        ...

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or finished and still retained."""
        ...

    def newest_first(self) -> Iterator[TaskRecord]:
        """Iterate over all kept tasks, the newest accepted one first."""
        ...

    def expire(self, now_s: float) -> int:
        """Let go of finished tasks past their retention and return how many went."""
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

"""What the commands of ``kos-agent debug`` may ask of the process that they look into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task that runs in this worker.

    Attributes:
        state: ``working`` or ``canceling``.
        started_at: seconds since the epoch.
        progress: its last report: a fraction of 1 (None when it gave none) and a message.
        job: what runs it; None for one that runs in a thread.
        thread: the identifier of the thread that runs it (`threading.get_ident`), if one does.
    """

    task: str
    capability: str
    attempt: int
    state: str
    started_at: float
    progress: tuple[float | None, str] | None
    job: asyncio.Task[Any] | None
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class LoopView:
    """A loop of the author's: ``state`` as in the worker's pulse."""

    name: str
    state: str
    runs: int
    failures: int
    last_error: str | None


class Inspected(Protocol):
    """The worker as commands see it. All methods may be called from any thread, and return at once.

    Attributes:
        agent: the author's `kagent_sdk.Agent`.
        loop: the one that its tasks run in; it may be blocked.
    """

    @property
    def agent(self) -> object:
        """The author's agent."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that tasks run in; what is asked of it needs a timeout."""

    def tasks(self) -> tuple[TaskView, ...]:
        """Return the tasks that run, oldest first."""

    def loops(self) -> tuple[LoopView, ...]:
        """Return the author's loops."""

    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the secrets that this worker was given."""

    async def state(self, key: str) -> object:
        """Return a value of the agent's state as JSON data. To be awaited in `loop`.

        Raises:
            KeyError: there is none.
        """

    def set_log_level(self, level: str) -> None:
        """Write log records from this level on, until the worker ends."""

    def redact(self, text: str) -> str:
        """Return a text without the secrets that this worker knows."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command is run with: click's ``ctx.obj``.

    Attributes:
        out: where it prints; what is written here is redacted.
        memory: what is kept from one command to the next, by the command's own keys: the last
            counts of ``memory``, say. One for the worker, shared by its sessions.
        width: columns of the terminal.
        is_over: whether its client has gone, or wants the command to end (Ctrl-C).
    """

    inspected: Inspected
    out: TextIO
    memory: dict[str, Any]
    width: int = 100
    is_over: Callable[[], bool] = lambda: False

"""What the contexts ask of the runtime: the worker implements it, and a test can fake it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from kagent_sdk.context.exposed_secrets import Secrets
from kagent_sdk.context.flag import Flag

if TYPE_CHECKING:
    from kagent_sdk.context.state import State


class PendingCall(Awaitable[Any], Protocol):
    """A task sent to another capability: await it, or take its `result` in a thread."""

    def result(self, timeout_s: float | None = None) -> Any:
        """Block this thread until the answer is there and return it; for sync functions only.

        Raises:
            CallError: the other task failed.
            TimeoutError: there was no answer within ``timeout_s``; the call goes on.
            RuntimeError: called in the worker's event loop, which it would block for ever.
        """


class CallPort(Protocol):
    """What every context asks of the runtime."""

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes."""

    @property
    def state(self) -> State:
        """The state: a task's transaction, or, for a loop, one where each call commits."""

    def call(
        self, agent: str, capability: str, input: object, timeout_s: float | None
    ) -> PendingCall:
        """Send a task to another capability at once; thread-safe."""


class TaskPort(CallPort, Protocol):
    """What a `TaskContext` asks of the runtime. All of it is thread-safe."""

    @property
    def cancelled(self) -> Flag:
        """The flag that the host's CANCEL raises."""

    def progress(self, fraction: float | None, message: str | None) -> Awaitable[None]:
        """Show progress; the port may coalesce."""

    def emit(self, event: object) -> Awaitable[None]:
        """Send one event, or wait for room."""


class LoopPort(CallPort, Protocol):
    """What a `LoopContext` asks of the runtime."""

    @property
    def stopping(self) -> Flag:
        """The flag that is raised when the agent stops."""

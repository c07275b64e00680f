"""What the contexts ask of the runtime: the worker implements it, and a test can fake it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from kagent_sdk.context.exposed_secrets import Secrets
from kagent_sdk.context.flag import Flag

if TYPE_CHECKING:
    from kagent_sdk.context.requests import CallRequest
    from kagent_sdk.context.state import State

Output_co = TypeVar("Output_co", covariant=True)


class PendingCall(Awaitable[Output_co], Protocol[Output_co]):
    """A task sent to another capability: await it, or take its `result` in a thread."""

    def result(self, timeout_s: float | None = None) -> Output_co:
        """Block this thread until the answer is there and return it; for sync functions only.

        Raises:
            CallError: the other task failed, or its output does not fit (``invalid_output``).
            TimeoutError: there was no answer within ``timeout_s``; the call goes on.
            RuntimeError: called in the worker's event loop, which it would block for ever.
        """

    def cancel(self) -> None:
        """Cancel the other task; whoever waits here gets a `CancelledError`. Idempotent."""


class PendingItems(AsyncIterable[Output_co], Iterator[Output_co], Protocol[Output_co]):
    """The items of a task sent to another capability, as they come: one reader at a time.

    ``async for`` in async code, ``for`` in a sync function. Both raise `CallError` where the other
    task fails. Leaving the loop early cancels that task as soon as the iterator is let go of;
    ``async with`` (or ``with``) around the loop does so at once.
    """

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> Output_co:
        """Return the next item."""

    async def aclose(self) -> None:
        """Cancel the other task, if it has not ended; idempotent."""

    def close(self) -> None:
        """Cancel the other task, if it has not ended, in a sync function; idempotent."""

    async def __aenter__(self) -> Self:
        """Return itself."""

    async def __aexit__(self, *exc_info: object) -> None:
        """Close."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *exc_info: object) -> None:
        """Close."""


class CallPort(Protocol):
    """What every context asks of the runtime."""

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes."""

    @property
    def state(self) -> State:
        """The state: a task's transaction, or, for a loop, one where each call commits."""

    def call(self, request: CallRequest) -> PendingCall[Any]:
        """Send a task to another capability at once; thread-safe."""

    def stream(self, request: CallRequest) -> PendingItems[Any]:
        """Do so for the items that it yields; thread-safe."""


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

"""What is done with all replicas of an agent: one thing at a time, to its end or to that of the fleet."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import KagentError
from kagent_sdk.orchestrator.fleet.news import News

if TYPE_CHECKING:
    from kagent_sdk.orchestrator.fleet.news import Tell


class GroupBusyError(KagentError):
    """Something else is being done with the agent."""


class OperationFailedError(KagentError):
    """What was asked for did not work; the agent is as it was, or as the message says."""


@dataclass(slots=True)
class Operation:
    """Something that is done with all replicas of an agent, one thing at a time.

    Attributes:
        kind: start, update, restart or scale.
        state: running, done or failed.
        reason: why it failed.
        result: what came of it, JSON-compatible.
    """

    kind: str
    state: str = "running"
    reason: str = ""
    began_at: float = field(default_factory=time.time)
    result: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "kind": self.kind,
            "state": self.state,
            "reason": self.reason or None,
            "began_at": self.began_at,
            **self.result,
        }


Action = Callable[[Operation], Coroutine[Any, Any, None]]
"""Does it, and puts what came of it into ``result``; raises KagentError where it fails."""


class Operations:
    """Carries out one operation after the other.

    Args:
        name: of the agent.
        tell: told of what was done.

    Attributes:
        last: the one that runs, or has run last.
    """

    def __init__(self, name: str, tell: Tell) -> None:
        self.last: Operation | None = None
        self._name = name
        self._tell = tell
        self._job: asyncio.Task[None] | None = None
        self._is_closed = False

    def begin(self, kind: str, action: Action) -> Operation:
        """Begin one, and return at once.

        Raises:
            GroupBusyError: another one is going on, or the orchestrator stops.
        """
        if self._is_closed:
            # The server still answers while agents report their ends: what it starts would be left.
            raise GroupBusyError(f"{self._name}: the orchestrator stops")
        if self.last is not None and self.last.state == "running":
            raise GroupBusyError(f"{self._name}: {self.last.kind} is going on; try again later")
        operation = self.last = Operation(kind)
        self._job = asyncio.create_task(self._run(operation, action))
        return operation

    async def carry_out(self, kind: str, action: Action) -> Operation:
        """Begin one and wait for its end; it goes on when the one who asked for it is gone.

        Raises:
            GroupBusyError: another one is going on, or the orchestrator stops.
        """
        operation = self.begin(kind, action)
        if self._job is not None:
            await asyncio.wait([self._job])
        return operation

    def close(self) -> None:
        """Begin nothing any more."""
        self._is_closed = True

    async def drop(self) -> None:
        """Cancel what is going on, and wait until it has ended."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await asyncio.wait([job])

    async def _run(self, operation: Operation, action: Action) -> None:
        try:
            await action(operation)
        except asyncio.CancelledError:
            operation.state, operation.reason = "failed", "the orchestrator stops"
            raise
        except (KagentError, OSError) as exc:
            self._fail(operation, str(exc))
        except Exception as exc:  # noqa: BLE001 - a bug of ours must not keep the agent busy for ever
            traceback.print_exc()
            self._fail(operation, f"internal error: {type(exc).__name__}")
        else:
            operation.state = "done"
            if operation.kind != "start":
                values = dict(operation.result)
                self._tell(News(f"{operation.kind}_done", self._name, None, values))

    def _fail(self, operation: Operation, reason: str) -> None:
        operation.state, operation.reason = "failed", reason
        self._tell(News(f"{operation.kind}_failed", self._name, None, {"reason": reason}))

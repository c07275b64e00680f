"""What a capability is given: the task that it works on."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from math import isinf
from typing import TYPE_CHECKING, Any

from kagent_sdk.context.base import Context
from kagent_sdk.context.flag import Flag
from kagent_sdk.context.ports import TaskPort

if TYPE_CHECKING:
    from kagent_sdk.protocol.messages import Run


class TaskContext(Context[TaskPort]):
    """The task that a capability works on.

    Attributes:
        capability: the capability's name.
    """

    __slots__ = ("_deadline", "_metadata", "_run", "_until_s", "capability")

    def __init__(self, run: Run, capability: str, port: TaskPort) -> None:
        super().__init__(port)
        self._run = run
        self._until_s = time.monotonic() + run.timeout_s
        self._deadline: datetime | None = None
        self._metadata: dict[str, Any] | None = None
        self.capability = capability

    def __repr__(self) -> str:
        return f"<TaskContext {self.capability} {self.task_id} attempt {self.attempt}>"

    @property
    def task_id(self) -> str:
        """The task's id: the same in every attempt, and so a key for idempotent work."""
        return self._run.task_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 on."""
        return self._run.attempt

    @property
    def traceparent(self) -> str | None:
        """The caller's W3C trace context, if it sent one."""
        return self._run.traceparent or None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed; None when there is none.

        Measured on the monotonic clock. The host enforces the deadline; this only shows it.
        """
        if isinf(self._until_s):
            return None
        return max(0.0, self._until_s - time.monotonic())

    @property
    def deadline(self) -> datetime | None:
        """When the task times out, in UTC; None when it never does."""
        remaining_s = self.remaining_s
        if self._deadline is None and remaining_s is not None:
            self._deadline = datetime.now(UTC) + timedelta(seconds=remaining_s)
        return self._deadline

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller sent along as the task's ``metadata``; empty when it sent none."""
        if self._metadata is None:
            document = json.loads(self._run.metadata or b"{}")
            self._metadata = document if isinstance(document, dict) else {}
        return self._metadata

    @property
    def log_keys(self) -> dict[str, str | int]:
        """What every line of this task has in the log, for a logger that you set up yourself.

        ``task_id``, ``capability``, ``attempt`` and, if the caller sent a trace, ``trace_id``.
        """
        keys: dict[str, str | int] = {
            "task_id": self.task_id,
            "capability": self.capability,
            "attempt": self.attempt,
        }
        # Version, trace, parent and flags (W3C Trace Context, 3.2).
        trace = self._run.traceparent.split("-")
        if len(trace) > 1:
            keys["trace_id"] = trace[1]
        return keys

    @property
    def cancelled(self) -> Flag:
        """Whether the task was cancelled or timed out; see `Flag`.

        An async capability is cancelled with `asyncio.CancelledError` besides. A sync one must
        look here; if it does not, `TaskInterrupted` is raised in its thread after
        ``tasks.cancel_grace_s``.
        """
        return self._port.cancelled

    def progress(self, fraction: float | None, message: str | None = None) -> Awaitable[None]:
        """Show the caller how far the task is: at once, in async code as in sync code.

        ``await`` it in async code, so that the event loop gets its turn; a plain call does in
        sync code. Call it as often as you like: about 20 updates a second travel, and always
        the last one.

        Args:
            fraction: from 0 to 1 (values outside are moved to the border), or None for "at work".
            message: a few words on the current step.

        Raises:
            TypeError: ``fraction`` is not a number, or ``message`` not a string.
            ValueError: ``fraction`` is not a number in the sense of IEEE 754 (NaN).
        """
        return self._port.progress(fraction, message)

    def emit(self, event: object) -> Awaitable[None]:
        """Send one event to whoever streams the task: a model or anything that JSON can hold.

        ``await`` it in async code: that is where it waits when the reader is slow. In a sync
        function a plain call blocks while the reader is slow.

        Args:
            event: what to send.

        Raises:
            InvalidOutput: a `KagentError`: the event is not JSON, or does not fit the hint of a stream.
            TaskError: it is over ``tasks.max_output_bytes`` (``output_too_large``).
            TaskInterrupted: the task was cancelled while a sync function waited for the reader.
            RuntimeError: thousands of events wait because async code does not await this.
        """
        return self._port.emit(event)

"""What the author's functions are given: `TaskContext` for a capability, `LoopContext` for a loop.

The contexts decide nothing. They hand every request to a port (`TaskPort`, `LoopPort`) that the
worker implements and that a test can fake. One `TaskContext` is made for every task, so whatever
can be worked out later is worked out on first use.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Generator, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from math import isinf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel, SecretStr

from kagent_sdk.errors import SecretMissingError
from kagent_sdk.protocol.log_tags import encode_tag

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kagent_sdk.protocol.messages import Run

AnyModel = TypeVar("AnyModel", bound=BaseModel)

CURRENT_TASK: ContextVar[TaskContext | None] = ContextVar("kagent_current_task", default=None)
"""The task that the running code belongs to: set in its job or thread, inherited by its jobs."""

CURRENT_LOOP: ContextVar[LoopContext | None] = ContextVar("kagent_current_loop", default=None)
"""The loop that the running code belongs to, if any."""


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


class Flag:
    """Something that happens once: test it, await it, or wait for it in a thread.

    ::

        if ctx.cancelled: ...             # anywhere
        await ctx.cancelled               # in async code, on any event loop
        ctx.cancelled.wait(timeout_s=1)   # in a sync function
    """

    __slots__ = ("_event", "_waiters")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        """Tell whether it happened."""
        return self._event.is_set()

    def __await__(self) -> Generator[Any, None, None]:
        """Return once it happened."""
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        self._waiters.append(waiter)
        try:
            # Tested after the append: a `set` in another thread finds the waiter, or is seen here.
            if not self._event.is_set():
                yield from waiter[1]
        finally:
            self._waiters.remove(waiter)

    def __repr__(self) -> str:
        return f"<Flag {'set' if self else 'not set'}>"

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until it happens and return True, or False after ``timeout_s``.

        For sync functions: in an event loop it would block every other job of the loop.
        """
        return self._event.wait(timeout_s)

    def set(self) -> None:
        """Let it happen; idempotent and thread-safe. The runtime's business, not the author's."""
        self._event.set()
        for loop, future in tuple(self._waiters):
            with suppress(RuntimeError):  # a closed loop has nobody left who waits
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Secrets(Mapping[str, SecretStr]):
    """The secrets that ``secrets.expose`` in config.yaml lets this agent read.

    Read-only; no value shows in ``repr``. A value of the vault that is not a string is given as
    its JSON text. There is one for all of the agent's functions, and when the vault is rotated, it
    shows the new values: ask it each time, or declare an ``on_secrets_changed`` function.
    """

    __slots__ = ("_raw", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.replace(values)

    def replace(self, values: Mapping[str, Any]) -> None:
        """Show these from now on, as a whole. The runtime's business, not the author's."""
        self._raw = dict(values)
        self._values = {
            key: SecretStr(value if isinstance(value, str) else json.dumps(value))
            for key, value in values.items()
        }

    def __getitem__(self, key: str) -> SecretStr:
        """Return the secret.

        Raises:
            SecretMissingError: the vault lacks it, or the configuration does not expose it.
        """
        try:
            return self._values[key]
        except KeyError:
            raise SecretMissingError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(self._values)) or 'none'}>"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not to be copied or pickled")

    def as_model(self, model: type[AnyModel]) -> AnyModel:
        """Return the secrets as a pydantic model of the author's.

        ::

            class Database(BaseModel):
                password: SecretStr
                port: int = 5432

            class MySecrets(BaseModel):
                openai_api_key: SecretStr
                db: Database                     # secrets.expose: [openai_api_key, db.password]

            secrets = ctx.secrets.as_model(MySecrets)

        Paths such as ``db.password`` become nested models. Declare a value as `SecretStr`, so
        that it does not show in the model's ``repr``.

        Raises:
            SecretMissingError: a field without a default is not exposed.
            SecretMismatchError: a value does not fit its field; the message does not hold it.
        """
        from kagent_sdk.typed_secrets import build_model  # noqa: PLC0415 - on first use

        return build_model(model, self._raw)


class TaskContext:
    """The task that a capability works on.

    Attributes:
        capability: the capability's name.
    """

    __slots__ = (
        "_deadline",
        "_log",
        "_log_tag",
        "_metadata",
        "_port",
        "_run",
        "_until_s",
        "capability",
    )

    _log_tag: bytes
    """Made when the task first prints: most never do."""

    def __init__(self, run: Run, capability: str, port: TaskPort) -> None:
        self._run = run
        self._port = port
        self._until_s = time.monotonic() + run.timeout_s
        self._deadline: datetime | None = None
        self._log: FilteringBoundLogger | None = None
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
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that puts `log_keys` on every line."""
        if self._log is None:
            self._log = _logger(self.log_keys)
        return self._log

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
    def log_tag(self) -> bytes:
        """The same as the streams put it before a printed line; the runtime's business."""
        try:
            return self._log_tag
        except AttributeError:
            self._log_tag = encode_tag(self.log_keys)
            return self._log_tag

    def is_of(self, port: object) -> bool:
        """Tell whether ``port`` has made this context; the runtime's business."""
        return port is self._port

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes to this agent."""
        return self._port.secrets

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

        Raises:
            InvalidOutput: the event is not JSON, or does not fit the hint of a stream.
            TaskError: it is over ``tasks.max_output_bytes`` (``output_too_large``).
            TaskInterrupted: the task was cancelled while a sync function waited for the reader.
            RuntimeError: thousands of events wait because async code does not await this.
        """
        return self._port.emit(event)

    def call(
        self, agent: str, capability: str, input: object, timeout_s: float | None = None
    ) -> PendingCall:
        """Send a task to another agent's capability and get its output.

        ``await ctx.call(…)`` in async code, ``ctx.call(…).result()`` in a sync function.

        Args:
            agent: the other agent's name.
            capability: the name of its capability.
            input: a model or anything that JSON can hold.
            timeout_s: how long the other task may take.

        Raises:
            CallError: the other task failed (raised where the answer is taken).
        """
        return self._port.call(agent, capability, input, timeout_s)


class LoopContext:
    """One run of a loop.

    Attributes:
        name: the loop's name.
        run: the number of this run, from 1 on; restarts after a crash count.
    """

    __slots__ = ("_log", "_log_tag", "_port", "name", "run")

    _log_tag: bytes

    def __init__(self, name: str, run: int, port: LoopPort) -> None:
        self._log: FilteringBoundLogger | None = None
        self._port = port
        self.name = name
        self.run = run

    def __repr__(self) -> str:
        return f"<LoopContext {self.name} run {self.run}>"

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that puts `log_keys` on every line."""
        if self._log is None:
            self._log = _logger(self.log_keys)
        return self._log

    @property
    def log_keys(self) -> dict[str, str | int]:
        """What every line of this run has in the log: ``loop`` and ``run``."""
        return {"loop": self.name, "run": self.run}

    @property
    def log_tag(self) -> bytes:
        """The same as the streams put it before a printed line; the runtime's business."""
        try:
            return self._log_tag
        except AttributeError:
            self._log_tag = encode_tag(self.log_keys)
            return self._log_tag

    def is_of(self, port: object) -> bool:
        """Tell whether ``port`` has made this context; the runtime's business."""
        return port is self._port

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes to this agent."""
        return self._port.secrets

    @property
    def stopping(self) -> Flag:
        """Whether the agent is stopping; see `Flag`. An async loop is cancelled besides."""
        return self._port.stopping

    def call(
        self, agent: str, capability: str, input: object, timeout_s: float | None = None
    ) -> PendingCall:
        """Send a task to another agent's capability; see `TaskContext.call`."""
        return self._port.call(agent, capability, input, timeout_s)


def current_owner() -> TaskContext | LoopContext | None:
    """Return the task or loop that the running code belongs to, if any."""
    return CURRENT_TASK.get() or CURRENT_LOOP.get()


def _logger(values: dict[str, str | int]) -> FilteringBoundLogger:
    # structlog costs 50 ms to import: only an author who logs with it pays.
    import structlog  # noqa: PLC0415

    logger: FilteringBoundLogger = structlog.get_logger().bind(**values)
    return logger

"""The author's loops: run, restarted after a crash, and shown in the heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from kagent_sdk.context import (
    CURRENT_LOOP,
    CallRequest,
    Flag,
    LoopContext,
    PendingCall,
    PendingItems,
    Secrets,
)
from kagent_sdk.protocol.manifest import LoopStatus
from kagent_sdk.worker.calls import Caller
from kagent_sdk.worker.failures import glimpse
from kagent_sdk.worker.hooks import is_cancelled_from_outside
from kagent_sdk.worker.parts import LoopPart
from kagent_sdk.worker.services import Services
from kagent_sdk.worker.state import make_state
from kagent_sdk.worker.threads import Threads
from kagent_sdk.worker.tracebacks import print_exception

if TYPE_CHECKING:
    from kagent_sdk.context.state import State

BACKOFF_INITIAL_S = 1.0
BACKOFF_MAX_S = 60.0
HEALTHY_S = 60.0
"""A run that lasts this long before it crashes begins a new row of crashes."""

MAX_EXPONENT = 10
"""2**10 s is over `BACKOFF_MAX_S` already; without a bound the power overflows after years."""

LoopState = Literal["waiting", "running", "backing_off", "stopped"]


def backoff_s(crashes_in_a_row: int) -> float:
    """Return how long to wait after the n-th crash in a row: 1, 2, 4 … 60 seconds."""
    exponent = min(crashes_in_a_row - 1, MAX_EXPONENT)
    return float(min(BACKOFF_INITIAL_S * 2**exponent, BACKOFF_MAX_S))


def count_crash(crashes_in_a_row: int, ran_s: float) -> int:
    """Return how many crashes stand in a row after a run of ``ran_s`` seconds that crashed."""
    return 1 if ran_s >= HEALTHY_S else crashes_in_a_row + 1


def pause_s(every_s: float, took_s: float) -> float:
    """Return how long a periodic loop waits after a run that took ``took_s``.

    The period is from start to start. A run that takes longer is followed by the next at once;
    runs that were missed are not made up for.
    """
    return max(0.0, every_s - took_s)


class LoopRunner:
    """One loop for the agent's life; the port of its `LoopContext`.

    Args:
        part: the loop.
        services: what the loop may use.
        stopping: the flag that the agent's STOP raises.
        sleep: waits so many seconds.
        clock: seconds, monotonic; the event loop's if None.
    """

    def __init__(
        self,
        part: LoopPart,
        services: Services,
        stopping: Flag,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._part = part
        self._services = services
        self._stopping = stopping
        self._sleep = sleep
        self._clock = clock or services.loop.time
        self._job: asyncio.Task[None] | None = None
        self._thread: Threads | None = None
        self._state: LoopState = "waiting"
        self._runs = 0
        self._crashes = 0
        self._crashes_in_a_row = 0
        self._last_error: str | None = None
        self._last_started_at: str | None = None
        self._last_took_s: float | None = None

    # The port of the loop's context.

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes."""
        return self._services.secrets

    @property
    def stopping(self) -> Flag:
        """The flag that is raised when the agent stops."""
        return self._stopping

    @property
    def state(self) -> State:
        """The agent's state; each call commits by itself."""
        return make_state(self._services.state)

    def call(self, request: CallRequest) -> PendingCall[Any]:
        """Send a task to another capability."""
        return self._services.calls.send(Caller(self), request)

    def stream(self, request: CallRequest) -> PendingItems[Any]:
        """Send a task whose items are wanted as they come."""
        return self._services.calls.stream(Caller(self), request)

    @property
    def status(self) -> LoopStatus:
        """The loop as ``/status`` shows it."""
        return LoopStatus(
            name=self._part.name,
            every_s=self._part.every_s,
            state=self._state,
            runs=self._runs,
            crashes=self._crashes,
            last_error=self._last_error,
            last_started_at=self._last_started_at,
            last_took_s=self._last_took_s,
        )

    def start(self) -> None:
        """Begin, in a job that this object owns."""
        self._job = self._services.loop.create_task(self.live(), name=f"loop {self._part.name}")

    async def aclose(self, grace_s: float) -> None:
        """Stop: the flag `stopping` must be set already. Never raises.

        An async loop is cancelled at once. A sync one that is at work has ``grace_s`` to see the
        flag; after that its thread is left to itself.
        """
        job = self._job
        if job is None:
            return
        if self._part.is_async or self._state != "running":
            job.cancel()
        await asyncio.wait([job], timeout=grace_s)
        job.cancel()

    async def live(self) -> None:
        """Run the loop again and again until it is cancelled, or until a life-long one returns."""
        try:
            while not self._stopping:
                pause = await self._run_once()
                if pause is None:
                    return
                await self._sleep(pause)
        finally:
            self._state = "stopped"
            self.close()

    def close(self) -> None:
        """Let the thread of a sync loop go, if it has one."""
        if self._thread is not None:
            self._thread.close()

    async def _run_once(self) -> float | None:
        """Run the function; return how long to wait for the next run, None when there is none."""
        started_s = self._clock()
        self._state = "running"
        self._last_started_at = datetime.now(UTC).isoformat()
        try:
            try:
                await self.turn()
            finally:
                if self._services.output.kept:
                    self._services.output.end(self)
                self._services.calls.leave(self, has_failed=False)
        except BaseException as exc:  # the boundary: a crash is logged and counted
            self._services.calls.leave(self, has_failed=True)
            if is_cancelled_from_outside(exc):
                raise
            return self._note_crash(exc, self._clock() - started_s)
        return self._note_return(self._clock() - started_s)

    async def turn(self) -> None:
        """Run the function once; raises what it raises."""
        self._runs += 1
        part = self._part
        context = LoopContext(part.name, self._runs, self)
        arguments = (context,) if part.takes_context else ()
        CURRENT_LOOP.set(context)
        if part.is_async:
            await part.function(*arguments)
            return
        if self._thread is None:
            self._thread = Threads(1, f"loop-{part.name}", self._services.mailbox)
        work = LoopWork(lambda: part.function(*arguments), self._services)
        self._thread.submit(work)
        error = await work.done
        if error is not None:
            raise error

    def _note_return(self, took_s: float) -> float | None:
        self._last_took_s = took_s
        self._crashes_in_a_row = 0
        if self._part.every_s is None:
            return None
        self._state = "waiting"
        return pause_s(self._part.every_s, took_s)

    def _note_crash(self, exc: BaseException, took_s: float) -> float:
        self._last_took_s = took_s
        self._crashes += 1
        self._crashes_in_a_row = count_crash(self._crashes_in_a_row, took_s)
        self._last_error = glimpse(exc)
        self._state = "backing_off"
        pause = backoff_s(self._crashes_in_a_row)
        if self._part.every_s is not None:
            pause = max(pause, pause_s(self._part.every_s, took_s))
        print_exception(f"loop {self._part.name!r} crashed; next run in {pause:g} s:", exc)
        return pause


class LoopWork:
    """One run of a sync loop, for a thread (`kagent_sdk.worker.threads.Work`).

    Attributes:
        done: in the event loop, what the function raised, or None when it has returned.
    """

    def __init__(self, function: Callable[[], object], services: Services) -> None:
        self._function = function
        self._variables: Context = copy_context()
        self._mailbox = services.mailbox
        self._error: BaseException | None = None
        self.done: asyncio.Future[BaseException | None] = services.loop.create_future()
        self.thread_ident = 0
        self.has_begun = False
        self.is_withdrawn = False
        self.is_interrupted = False

    def work(self) -> None:
        """Call the function, in the thread."""
        try:
            self._variables.run(self._function)
        except BaseException as exc:  # noqa: BLE001 - handed to the event loop
            self._error = exc

    def finish(self) -> None:
        """Tell the event loop."""
        self._mailbox.post(self._resolve)

    def _resolve(self) -> None:
        if not self.done.done():
            self.done.set_result(self._error)

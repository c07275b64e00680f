"""Code of a console, on its way through the agent's loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import queue
import threading
import traceback
import types
from typing import Any

from kagent_sdk.debug.console_code import FILE_NAME
from kagent_sdk.debug.console_jobs import ConsoleJobs, mark
from kagent_sdk.debug.interruption import ConsoleInterrupt, Interruptible

MAX_WAITING_CHARS = 1024 * 1024
"""Of output that the client has not taken; what is printed beyond it is dropped, and said so."""

DROPPED = "\n[more was printed than could be shown]\n"


class ConsoleOutput:
    """What console code prints. It never waits: it is called in the agent's loop."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._waiting_chars = 0
        self._has_dropped = False
        self._lock = threading.Lock()
        self._is_open = True

    def write(self, text: str) -> int:
        """Hand a text to the console's thread; drop it once the console is closed."""
        with self._lock:
            if not self._is_open or not text:
                pass
            elif self._waiting_chars + len(text) <= MAX_WAITING_CHARS:
                self._waiting_chars += len(text)
                self.events.put(text)
            elif not self._has_dropped:
                # All of it, for a cut could go through a secret.
                self._has_dropped = True
                self.events.put(DROPPED)
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def wake(self) -> None:
        """Make who waits for events look up."""
        self.events.put(None)

    def taken(self, text: str) -> None:
        """Take it that a text is on its way to the client."""
        with self._lock:
            if text is DROPPED:
                self._has_dropped = False
            else:
                self._waiting_chars -= len(text)

    def close(self) -> None:
        """Drop what is written from now on."""
        with self._lock:
            self._is_open = False


class Evaluation:
    """One piece of code; made by the console's thread, run by the agent's loop.

    Attributes:
        settled: whether it has begun, or never will.
    """

    def __init__(
        self, code: types.CodeType, variables: dict[str, Any], output: ConsoleOutput
    ) -> None:
        self._code: types.CodeType | None = code
        self._variables = variables
        self._output = output
        self._lock = threading.Lock()
        self._job: asyncio.Task[None] | None = None
        self._steps = Interruptible()
        self.is_given_up = False
        self.has_begun = False
        self.settled = threading.Event()
        self.has_ended = False
        self.has_failed = False
        self.wants_exit = False

    def submit(self, loop: asyncio.AbstractEventLoop, jobs: ConsoleJobs) -> None:
        """Ask the loop to run it.

        Raises:
            RuntimeError: the loop is closed.
        """
        context = contextvars.Context()
        context.run(mark, jobs)
        loop.call_soon_threadsafe(self._begin, loop, context, context=context)

    def give_up(self) -> None:
        """Do not begin it if it has not begun; interrupt it if it runs, cancel it if it waits. For any thread."""
        with self._lock:
            self.is_given_up = True
            self.settled.set()
            job = self._job
        self._steps.interrupt()
        if job is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                job.get_loop().call_soon_threadsafe(job.cancel)

    def _begin(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        with self._lock:
            if self.is_given_up or self._code is None:
                return
            self.has_begun = True
            self.settled.set()
            self._job = loop.create_task(self._run(self._code), name="console", context=context)
        # Not in the job itself: one that is cancelled at once runs no line of it.
        self._job.add_done_callback(self._end)

    async def _run(self, code: types.CodeType) -> None:
        try:
            result = self._steps.run(types.FunctionType(code, self._variables))
            if code.co_flags & inspect.CO_COROUTINE:
                await self._steps.steps(result)
        except SystemExit:
            # Out of a job it would end the agent.
            self.wants_exit = True
        except asyncio.CancelledError:
            self.has_failed = True
            self._output.write("interrupted\n" if self.is_given_up else "cancelled\n")
            raise
        except ConsoleInterrupt:
            self.has_failed = True
            self._output.write("interrupted\n")
        except BaseException as error:  # noqa: BLE001 - shown to who typed it, KeyboardInterrupt too
            self.has_failed = True
            self._output.write(format_error(error))

    def _end(self, job: asyncio.Task[None]) -> None:
        self.has_ended = True
        self._code = self._job = None
        self._output.wake()


def format_error(error: BaseException) -> str:
    """Return a traceback that begins with what was typed."""
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != FILE_NAME:
            frames = frames.tb_next
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception as worse:  # noqa: BLE001 - the author's __str__ may fail too
        return f"{type(error).__name__}, which cannot be shown: {type(worse).__name__}\n"

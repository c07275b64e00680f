"""The jobs that code of a console makes in the agent's loop: they end with it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

ConsoleJobs = weakref.WeakSet[asyncio.Future[Any]]

_of_console: ContextVar[ConsoleJobs | None] = ContextVar("kagent_console_jobs", default=None)


class JobTracker:
    """While a console is open, sees each job that is made in the loop, and notes whose it is.

    A job inherits the context of the one that makes it, so those of a console's jobs are its own too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._consoles = 0
        self._before: Callable[..., Any] | None = None

    @contextmanager
    def tracking(self) -> Iterator[ConsoleJobs]:
        """Collect the jobs of one console, if they are made where `mark` has been called."""
        with self._lock:
            self._consoles += 1
            if self._consoles == 1:
                self._before = self._loop.get_task_factory()
                self._loop.set_task_factory(cast("Any", self._make))
        try:
            yield weakref.WeakSet()
        finally:
            with self._lock:
                self._consoles -= 1
                # One that the author has set since then is left alone.
                if not self._consoles and self._loop.get_task_factory() == self._make:
                    self._loop.set_task_factory(self._before)

    def _make(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        before = self._before
        job = (
            asyncio.Task(work, loop=loop, **options)
            if before is None
            else before(loop, work, **options)
        )
        context = options.get("context")
        jobs = _of_console.get() if context is None else context.get(_of_console)
        if jobs is not None:
            jobs.add(job)
        return job


def mark(jobs: ConsoleJobs) -> None:
    """Let the jobs that are made in this context be these."""
    _of_console.set(jobs)


async def end_all(jobs: ConsoleJobs, timeout_s: float) -> None:
    """Cancel those that still run, and wait for their end. In the agent's loop."""
    for _ in range(2):  # what is cancelled may make another one
        running = [job for job in tuple(jobs) if not job.done()]
        for job in running:
            job.cancel()
        if running:
            await asyncio.wait(running, timeout=timeout_s / 2)

"""The jobs that an agent's own code starts and leaves: in production they end with its process."""

from __future__ import annotations

import asyncio
from contextvars import Context
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from kagent_sdk.worker.record_writer import OWN_STREAM

CLEANUP_S = 1.0
"""How long they may take to end, as in a worker's process."""


class _Factory:
    """The loop's task factory while somebody watches: Python 3.11 does not tell a job's context."""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.watches: dict[object, WeakSet[asyncio.Task[Any]]] = {}

    def __call__(
        self, loop: asyncio.AbstractEventLoop, work: Any, /, **options: Any
    ) -> asyncio.Task[Any]:
        job: asyncio.Task[Any] = (
            asyncio.Task(work, loop=loop, **options)
            if self.before is None
            else self.before(loop, work, **options)
        )
        context: Context | None = options.get("context")
        mark = OWN_STREAM.get() if context is None else context.get(OWN_STREAM)
        jobs = self.watches.get(mark)
        if jobs is not None:
            jobs.add(job)
        return job


class JobWatch:
    """Notes every job that is made in the present agent's context, by `OWN_STREAM`."""

    def __init__(self) -> None:
        self._mark = OWN_STREAM.get()
        self._jobs: WeakSet[asyncio.Task[Any]] = WeakSet()

    def __enter__(self) -> Self:
        """Begin to note."""
        self._loop = asyncio.get_running_loop()
        factory: Any = self._loop.get_task_factory()
        if not isinstance(factory, _Factory):
            factory = _Factory(factory)
            self._loop.set_task_factory(factory)
        factory.watches[self._mark] = self._jobs
        self._factory = factory
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note no more; the last one puts back what was there."""
        del self._factory.watches[self._mark]
        if not self._factory.watches:
            self._loop.set_task_factory(self._factory.before)

    async def end(self) -> None:
        """Cancel those that are left, and give them `CLEANUP_S` to end."""
        left = {job for job in self._jobs if not job.done()} - {asyncio.current_task()}
        for job in left:
            job.cancel()
        if left:
            await asyncio.wait(left, timeout=CLEANUP_S)

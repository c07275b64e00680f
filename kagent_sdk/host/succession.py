"""The generations of workers: the one that gets the tasks, one on trial, and those that retire.

::

              start           all ready              no task left, or shutdown.grace_s is over
    (nothing) ─────▶ on trial ─────────▶ current ─ ─ ─▶ retiring ─────────▶ STOP, then SIGKILL
                        │       the swap           its
                        ▼                          successor's
                  failed: stopped                  swap
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ReloadError
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.place import Place
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.shutdown import plan_shutdown
from kagent_sdk.host.task import CancelReason, Task, Worker
from kagent_sdk.host.trial import Contender, may_take_over
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.protocol.frames import Kind

MAX_RETIRING = 2
"""So many generations may finish their tasks beside the current one; a further reload waits."""

FAILED_STOP_S = 2.0
"""Workers that were ready when another one failed have this long for their ``on_shutdown``."""

BuildPool = Callable[[AgentConfig], Pool]


class Succession:
    """Lets one generation of workers follow another while the agent serves.

    Args:
        first: the generation that the agent starts with.
        build: makes a further one of a configuration.
        engine: runs the tasks.
        pump: told what happens.

    Attributes:
        pool: the generation that gets the tasks; its configuration is the agent's.
    """

    def __init__(self, first: Pool, *, build: BuildPool, engine: Engine, pump: LogPump) -> None:
        self._build = build
        self._engine = engine
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self._group: asyncio.TaskGroup | None = None
        self._jobs: dict[Pool, asyncio.Task[None]] = {}
        self._retirements: dict[Pool, asyncio.Task[None]] = {}
        self.pool = first

    @property
    def pools(self) -> list[Pool]:
        """Every generation that has workers, the current one first."""
        return [self.pool, *(pool for pool in self._jobs if pool is not self.pool)]

    @property
    def retiring(self) -> int:
        """How many generations finish their last tasks."""
        return len(self._retirements)

    async def run(self, started: list[WorkerProcess]) -> None:
        """Keep the workers of every generation until `stop`.

        Raises:
            CrashLoopError: in an exception group, when a place cannot be filled.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._keep(self.pool, started)

    def kill(self, worker: Worker, reason: str) -> None:
        """End the worker behind a connection, whichever generation it is of."""
        for pool in self.pools:
            pool.kill(worker, reason)

    def share_secrets(self) -> None:
        """Let the workers of every generation know rotated secrets."""
        for pool in self.pools:
            pool.kind.share_secrets(pool.places)

    async def stop(self, within_s: float) -> None:
        """Stop all generations, and wait; see `Pool.stop`."""
        for job in self._retirements.values():
            job.cancel()
        await asyncio.gather(*(pool.stop(within_s) for pool in self.pools))

    # The next generation

    async def try_out(self, config: AgentConfig) -> Pool:
        """Start a new generation and wait until all of its workers are ready.

        Raises:
            ReloadError: one of them did not come up; they are all gone again.
        """
        while len(self._retirements) >= MAX_RETIRING:
            await asyncio.wait(self._retirements.values(), return_when=asyncio.FIRST_COMPLETED)
        pool = self._build(config)
        pool.generation = self.pool.generation + 1
        pool.is_trial = True
        pool.reception.is_current = False
        try:
            self._keep(pool, await self._start_all(pool))
            while not may_take_over(
                map(_contender, pool.places), start_timeout_s=config.worker.start_timeout_s
            ):
                pool.changed.clear()
                await pool.changed.wait()
        except ReloadError:
            await pool.stop(FAILED_STOP_S)
            raise
        except BaseException:
            pool.close()  # the agent stops: `stop` sees to those that are ready
            raise
        return pool

    def swap(self, pool: Pool) -> None:
        """Give the tasks to a generation that passed its trial, in one step of the loop."""
        retired, self.pool = self.pool, pool
        for place, before in zip(pool.places, retired.places, strict=False):
            place.inherit(before)
        pool.is_trial = False
        pool.reception.take_over(pool.places)
        retired.close()
        for connection in retired.connections:
            connection.send(Kind.RETIRE, 0)  # it stops its loops: those of its successor run
        assert self._group is not None
        job = self._group.create_task(self._retire(retired), name="retirement")
        self._retirements[retired] = job
        job.add_done_callback(lambda _: self._retirements.pop(retired))

    async def _start_all(self, pool: Pool) -> list[WorkerProcess]:
        started: list[WorkerProcess] = []
        try:
            for _ in pool.places:
                started.append(pool.start_one())
                await asyncio.sleep(0)  # each takes milliseconds: the probes come in between
        except BaseException as exc:
            for process in started:
                process.discard()
            if isinstance(exc, OSError):
                raise ReloadError(f"a worker cannot be started: {exc.strerror}") from exc
            raise
        return started

    def _keep(self, pool: Pool, started: list[WorkerProcess]) -> None:
        assert self._group is not None
        job = self._group.create_task(pool.run(started), name=f"generation-{pool.generation}")
        self._jobs[pool] = job
        job.add_done_callback(lambda _: self._jobs.pop(pool))

    # The one before

    async def _retire(self, pool: Pool) -> None:
        """Let a generation finish; cut short what takes longer than a shutdown would allow."""
        config = self.pool.config
        schedule = plan_shutdown(
            self._loop.time(),
            grace_s=config.shutdown.grace_s,
            cancel_grace_s=config.tasks.cancel_grace_s,
        )
        if not await self._is_relieved(pool, schedule.finish_until_s):
            self._pump.log("warning", "retiring_tasks_cut_short", generation=pool.generation)
            self._cancel(pool)
            if not await self._is_relieved(pool, schedule.interrupt_at_s):
                self._interrupt(pool)
                await self._is_relieved(pool, schedule.cancel_until_s)
            self._dismiss(pool)
        await pool.stop(max(0.0, schedule.stop_until_s - self._loop.time()))
        self._pump.log("info", "generation_retired", generation=pool.generation)

    def _cancel(self, pool: Pool) -> None:
        """Cancel what its workers hold and may not run again elsewhere."""
        for task in _open_tasks(pool):
            if not self._engine.can_run_again(task):
                self._engine.cancel(task, CancelReason.RELOAD)

    def _interrupt(self, pool: Pool) -> None:
        """Interrupt what was cancelled there and has not ended."""
        for task in _open_tasks(pool):
            if task.cancel_reason is not None and task.worker is not None:
                task.worker.send(Kind.INTERRUPT, task.number)

    def _dismiss(self, pool: Pool) -> None:
        """Take from its workers what they still hold: it ends, or runs again elsewhere."""
        for place in pool.places:
            if place.connection is not None:
                place.connection.dismiss()
                pool.reception.lose(place, "reload")

    async def _is_relieved(self, pool: Pool, until_s: float) -> bool:
        try:
            async with asyncio.timeout_at(until_s):
                await self._engine.dispatcher.wait_relieved(pool.connections)
        except TimeoutError:
            return False
        return True


def _open_tasks(pool: Pool) -> list[Task]:
    return [
        task
        for connection in pool.connections
        for task in connection.calls.values()
        if not task.is_ended
    ]


def _contender(place: Place) -> Contender:
    crash, connection = place.last_crash, place.connection
    if crash is None:
        # A program has no connection.
        is_open = connection is None or connection.is_open
        return Contender(place.index, place.is_ready and is_open)
    return Contender(place.index, place.was_ready, crash.how, crash.traceback or "")

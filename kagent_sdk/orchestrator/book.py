"""The open tasks in memory and all tasks on disk: what is told to anybody is on disk by then."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from kagent_sdk.journal.retention import Retention
from kagent_sdk.orchestrator import rows
from kagent_sdk.orchestrator.clock import Clock
from kagent_sdk.orchestrator.rows import EventRow
from kagent_sdk.orchestrator.settings import BrokerLimits
from kagent_sdk.orchestrator.task import Ending, OpenTask, Phase, TaskRecord
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.storage.space import settle_size, shrink
from kagent_sdk.storage.thread import Operation, Storage

SHRINK_PAGES = 256
SPARE_SHARE = 8
PRUNE_EVERY_S = 60.0
PAGE_EVENTS = 256
PAGE_BYTES = 256 * 1024


class Book:
    """Keeps tasks.

    Args:
        storage: the database, open.
        limits: of what stays.
        clock: of what is written.

    Attributes:
        open: the tasks that have not ended, by id.
        open_bytes: of their inputs.
        ended: how many have ended since the start, by state.
        served_s: how long orchestrators had been there before this one; see
            `kagent_sdk.orchestrator.absences`.
    """

    def __init__(self, storage: Storage, limits: BrokerLimits, clock: Clock) -> None:
        self._storage = storage
        self._limits = limits
        self._clock = clock
        self._retention = Retention(
            limits.retention_s, limits.retention_count, limits.retention_bytes
        )
        self._sequence = 0
        self._is_pruning = False
        self.open: dict[str, OpenTask] = {}
        self.open_bytes = 0
        self.ended: Counter[str] = Counter()
        self.served_s = 0.0

    @property
    def kept(self) -> int:
        """How many ended tasks can be read."""
        return self._retention.finished

    @property
    def kept_bytes(self) -> int:
        """How many bytes they take."""
        return self._retention.finished_bytes

    async def load(self) -> list[OpenTask]:
        """Read the tasks that an orchestrator before this one has left, the oldest first.

        Raises:
            StorageError: they cannot be read.
        """
        records, streams = await self._storage.read(rows.read_open)
        totals = await self._storage.read(rows.read_totals)
        self._sequence = totals.last_sequence
        self.served_s = totals.served_s
        self._retention.finished = totals.ended
        self._retention.finished_bytes = totals.ended_bytes
        for record in records:
            task = self._keep(record)
            stream = streams.get(record.seq)
            if stream is not None:
                task.first_event, task.last_event = stream.first, stream.last
                task.event_bytes, task.last_agent_event = stream[3:]
        return list(self.open.values())

    def next_sequence(self) -> int:
        """Return the number of the next task."""
        self._sequence += 1
        return self._sequence

    def insert(self, record: TaskRecord) -> OpenTask:
        """Keep a new task; `OpenTask.saved` is done when it is on disk."""
        record.size_bytes = rows.size_of(record)
        task = self._keep(record)
        task.saved = self._storage.write(partial(rows.insert, values=rows.pack(record)))
        task.saved.add_done_callback(_ignore)
        return task

    def forget(self, task: OpenTask) -> None:
        """Let go of a task that has ended, or that the disk did not take."""
        if self.open.get(task.id) is task:
            del self.open[task.id]
            self.open_bytes -= len(task.record.input)

    def _keep(self, record: TaskRecord) -> OpenTask:
        task = self.open[record.id] = OpenTask(record)
        self.open_bytes += len(record.input)
        return task

    async def find(self, task_id: str) -> OpenTask | None:
        """Return a task, open or ended.

        Raises:
            StorageError: the disk cannot be read.
        """
        task = self.open.get(task_id)
        if task is not None:
            return task
        record = await self._storage.read(partial(rows.find, task_id=task_id))
        task = self.open.get(task_id)  # it may have come meanwhile
        if task is not None or record is None:
            return task
        found = OpenTask(record, Phase.ENDING)
        if record.is_ended:
            found.ended.set()
        return found

    async def is_kept(self, task_id: str) -> bool:
        """Whether there is a task of this id.

        Raises:
            StorageError: the disk cannot be read.
        """
        return await self._storage.read(partial(rows.is_kept, task_id=task_id))

    async def page(
        self,
        *,
        after: str | None,
        limit: int,
        state: str | None,
        capability: str | None,
        agent: str | None,
    ) -> list[TaskRecord]:
        """Return tasks without their output, the newest first.

        Raises:
            StorageError: the disk cannot be read.
        """
        return await self._storage.read(
            partial(
                rows.read_page,
                after=after,
                limit=limit,
                state=state,
                capability=capability,
                agent=agent,
            )
        )

    def note_offer(self, task: OpenTask) -> asyncio.Future[None]:
        """Write down who is offered a task; done when it is on disk."""
        record = task.record
        values = (
            record.agent,
            record.instance,
            record.lease,
            record.attempt,
            record.is_idempotent,
            record.max_attempts,
        )
        return self._storage.write(partial(rows.offer, seq=record.seq, values=values))

    def note_start(self, task: OpenTask) -> None:
        """Write down that an agent has the task."""
        record = task.record
        self._write(partial(rows.start, seq=record.seq, started_at=record.started_at))

    def note_return(self, task: OpenTask) -> None:
        """Write down that nobody has the task any more."""
        record = task.record
        self._write(partial(rows.take_back, seq=record.seq, attempt=record.attempt))

    def note_away(self, task: OpenTask, served_s: float) -> None:
        """Write down since when its agent is waited for."""
        record = task.record
        self._write(
            partial(rows.note_away, seq=record.seq, away_at=record.away_at, served_s=served_s)
        )

    def note_all_away(self, served_s: float) -> None:
        """Write down that the agents of all open tasks that have a lease are waited for."""
        self._write(partial(rows.note_all_away, served_s=served_s))

    def note_served(self, served_s: float) -> None:
        """Write down how long orchestrators have been there."""
        self._write(partial(rows.note_served, served_s=served_s))

    def _write(self, operation: Operation[None]) -> None:
        """Write what nobody waits for: a restart does without it."""
        self._storage.write(operation).add_done_callback(_ignore)

    def note_cancel(self, task: OpenTask) -> asyncio.Future[None]:
        """Write down that the caller wants no more of it; done when it is on disk."""
        return self._storage.write(partial(rows.ask_to_cancel, seq=task.record.seq))

    def add_event(
        self, task: OpenTask, kind: str, data: bytes, *, agent_id: int = 0
    ) -> asyncio.Future[None]:
        """Add to a task's stream; its followers are told when it is on disk, and then it is done."""
        task.last_event += 1
        task.event_bytes += len(data)
        limits = self._limits
        if task.last_event - task.first_event >= limits.max_events:
            task.first_event = task.last_event - limits.max_events + 1
        elif task.event_bytes > limits.max_event_bytes:
            # What is left is not measured again: the stream begins anew, and says so as a gap.
            task.first_event, task.event_bytes = task.last_event, len(data)
        saved = self._storage.write(
            partial(
                rows.add_event,
                seq=task.record.seq,
                event=EventRow(task.last_event, kind, data),
                attempt=task.record.attempt,
                agent_id=agent_id,
                first=task.first_event,
            )
        )

        def tell(done: asyncio.Future[None]) -> None:
            _ignore(done)
            task.wake()

        saved.add_done_callback(tell)
        return saved

    async def events(self, task: OpenTask, after: int) -> list[EventRow]:
        """Return the next events of a task.

        Raises:
            StorageError: the disk cannot be read.
        """
        return await self._storage.read(
            partial(
                rows.read_events,
                seq=task.record.seq,
                after=after,
                limit=PAGE_EVENTS,
                limit_bytes=PAGE_BYTES,
            )
        )

    async def last_event_id(self, task: OpenTask) -> int:
        """Return the id of a task's last event.

        Raises:
            StorageError: the disk cannot be read.
        """
        return await self._storage.read(partial(rows.last_event_id, seq=task.record.seq))

    def end(self, task: OpenTask, ending: Ending, on_ended: Callable[[], None]) -> None:
        """Write the end of a task, once; it is shown when it is on disk, and not before."""
        assert task.phase is not Phase.ENDING, "ended twice"
        task.phase = Phase.ENDING
        record, ended_at = task.record, self._clock.wall_s()
        if ending.state is TaskState.COMPLETED and record.started_at is None:
            record.started_at = ended_at  # its end is the first that was heard of it
        size = rows.size_of(record, ending.output, task.event_bytes)
        write = partial(
            rows.end,
            seq=record.seq,
            ending=ending,
            started_at=record.started_at,
            finished_at=ended_at,
            size_bytes=size,
        )

        def settle(done: asyncio.Future[bool]) -> None:
            if done.cancelled() or done.exception() is not None:
                return  # the storage is closing: the task stays open for the next orchestrator
            record.close(ending, ended_at)
            self.forget(task)
            self.ended[ending.state.value] += 1
            self._count_ended(size)
            task.ended.set()
            task.wake()
            on_ended()

        self._storage.write(write, must=True).add_done_callback(settle)

    def _count_ended(self, size_bytes: int) -> None:
        self._retention.finished += 1
        self._retention.finished_bytes += size_bytes
        if self._retention.is_over:
            self._prune(0.0)

    async def keep_tidy(self) -> None:
        """Remove what is past its time, until cancelled."""
        while True:
            self._prune(self._clock.wall_s() - self._limits.retention_s)
            await asyncio.sleep(PRUNE_EVERY_S)

    def _prune(self, ended_before: float) -> None:
        if self._is_pruning or not self._retention.finished:
            return
        self._is_pruning = True
        count, size_bytes = self._retention.excess
        step = partial(rows.prune, ended_before=ended_before, count=count, size_bytes=size_bytes)
        self._storage.write(step).add_done_callback(partial(self._note_pruned, ended_before))

    def _note_pruned(self, ended_before: float, done: asyncio.Future[tuple[int, int]]) -> None:
        self._is_pruning = False
        if done.cancelled() or done.exception() is not None:
            return  # the next turn tries again
        gone, freed = done.result()
        self._retention.finished -= gone
        self._retention.finished_bytes -= freed
        if gone == rows.MAX_PRUNED:
            self._prune(ended_before)
        elif gone:
            self._write(_give_back)
            self._storage.read(settle_size).add_done_callback(_ignore)


def _give_back(connection: sqlite3.Connection) -> None:
    shrink(connection, SHRINK_PAGES, SPARE_SHARE)


def _ignore(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()  # read, so that nobody is told of it

"""Which worker runs which task: places, limits, the queue."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from kagent_sdk.host.counters import Counters
from kagent_sdk.host.event_flow import EventFlow
from kagent_sdk.host.queue import TaskQueue
from kagent_sdk.host.task import Task
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.messages import encode_run
from kagent_sdk.protocol.tasks import TaskState

MAX_SHOWN_ATTEMPT = 0xFFFF  # a u16 on the wire


class Dispatcher:
    """Starts tasks on workers as long as there are places, the oldest first.

    Args:
        counters: told of the waiting.
        events: told of the starts.
        note_start: asked before a worker is told of a kept task; False: `send_run` comes later.

    Attributes:
        queue: tasks that wait.
        capabilities: the manifests of the present workers, by name.
        connections: the workers that may be given tasks.
        retiring: those that a reload replaced; they finish what they hold.
        running: attempts that workers hold.
        ending: tasks that no worker holds any more, and whose callers are not told yet.
        on_settle: called when a place may have become free; for whoever waits for one.
    """

    def __init__(
        self,
        counters: Counters,
        events: EventFlow,
        note_start: Callable[[Task, WorkerConnection], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._note_start = note_start
        self._counters = counters
        self._events = events
        self._running_by_name: dict[str, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._relieved = asyncio.Event()
        self.queue = TaskQueue()
        self.capabilities: dict[str, CapabilityManifest] = {}
        self.connections: list[WorkerConnection] = []
        self.retiring: list[WorkerConnection] = []
        self.running = 0
        self.ending = 0
        self.on_settle: Callable[[], None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no task runs, waits, or is about to end."""
        return not (self.running or self.ending or len(self.queue))

    def running_of(self, name: str) -> int:
        """Return how many attempts of a capability workers hold."""
        return self._running_by_name.get(name, 0)

    async def wait_idle(self) -> None:
        """Return when the dispatcher `is_idle`."""
        await self._idle.wait()

    async def wait_relieved(self, connections: Sequence[WorkerConnection]) -> None:
        """Return when none of these retiring workers holds an attempt any more."""
        while any(connection.calls for connection in connections):
            self._relieved.clear()
            await self._relieved.wait()

    def replace_workers(self, connections: list[WorkerConnection]) -> None:
        """Give new tasks to these workers alone; the present ones retire."""
        for connection in self.connections:
            connection.is_open = False
        self.retiring += self.connections
        self.connections = connections

    def forget(self, connection: WorkerConnection) -> None:
        """Take a lost worker off the lists."""
        for held in (self.connections, self.retiring):
            if connection in held:
                held.remove(connection)
        self._relieved.set()

    def free_connection(self, name: str) -> WorkerConnection | None:
        """Return the least busy worker that can start a task of this capability now."""
        best: WorkerConnection | None = None
        for connection in self.connections:
            if connection.has_place and (best is None or len(connection.calls) < len(best.calls)):
                best = connection
        if best is None or name not in best.capabilities or not self._has_room(name):
            return None
        return best

    def enqueue(self, task: Task, *, front: bool = False) -> None:
        """Let a task wait."""
        task.queued_at = self._loop.time()
        self.queue.push(task, front=front)
        self._idle.clear()

    def start(self, task: Task, connection: WorkerConnection) -> None:
        """Give a task to a worker."""
        name = task.capability.name
        task.attempt += 1
        task.state = TaskState.WORKING
        task.started_at = time.time()
        task.worker = connection
        task.transaction = None  # an attempt before it may have come as far as that, and no further
        task.number = connection.next_number()
        connection.calls[task.number] = task
        self.running += 1
        self._running_by_name[name] = self._running_by_name.get(name, 0) + 1
        self._idle.clear()
        if task.queued_at:
            self._counters.started(self._loop.time() - task.queued_at)
            task.queued_at = 0.0
        if not task.kept or self._note_start(task, connection):
            self.send_run(task, connection)
        if task.events is not None:
            self._events.announce_state(task)

    def send_run(self, task: Task, connection: WorkerConnection) -> None:
        """Tell a worker of the attempt that it was given."""
        remaining_s = (
            math.inf if task.deadline_at == math.inf else task.deadline_at - self._loop.time()
        )
        run = encode_run(
            connection.capabilities[task.capability.name],
            min(task.attempt, MAX_SHOWN_ATTEMPT),
            remaining_s,
            task_id=task.id,
            traceparent=task.traceparent,
            metadata=task.metadata,
            input=task.input,
        )
        connection.send(Kind.RUN, task.number, run)

    def release(self, connection: WorkerConnection, number: int) -> Task | None:
        """Take an attempt off a worker that has ended it; None when it holds no such attempt."""
        task = connection.calls.pop(number, None)
        if task is None:
            return None
        self.running -= 1
        name = task.capability.name
        left = self._running_by_name[name] - 1
        if left:
            self._running_by_name[name] = left
        else:
            del self._running_by_name[name]
        if self.retiring and not connection.calls:
            self._relieved.set()
        return task

    def settle(self) -> None:
        """Go on after something has ended: start what waits, or note that nothing is left."""
        if len(self.queue):
            self._start_waiting()
        elif not self.running and not self.ending:
            self._idle.set()
        if self.on_settle is not None:
            self.on_settle()

    def open_attempts(self) -> list[Task]:
        """Return the tasks that workers hold and that have not ended."""
        return [
            task
            for connection in (*self.connections, *self.retiring)
            for task in connection.calls.values()
            if not task.is_ended
        ]

    def _start_waiting(self) -> None:
        while len(self.queue) and any(connection.has_place for connection in self.connections):
            task = self.queue.pop(self._can_start)
            if task is None:
                return
            connection = self.free_connection(task.capability.name)
            assert connection is not None
            self.start(task, connection)

    def _can_start(self, name: str) -> bool:
        return self.free_connection(name) is not None

    def _has_room(self, name: str) -> bool:
        manifest = self.capabilities.get(name)
        limit = None if manifest is None else manifest.max_concurrency
        return limit is None or self._running_by_name.get(name, 0) < limit

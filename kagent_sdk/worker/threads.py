"""Threads for sync functions: daemons, so that a stuck one never keeps the worker from ending.

An interrupt (`TaskInterrupted`, injected with ``PyThreadState_SetAsyncExc``) lands at whatever
bytecode the thread runs next, so three rules keep it inside the work it is meant for:

1. It is set only under the lock, and only while the thread is armed with that very work.
2. A work is interrupted once at most; so whoever has caught it may go on without fear.
3. After disarming, an interrupt that was set is made to land, if it has not, and is swallowed.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Protocol

from kagent_sdk.errors import TaskInterrupted
from kagent_sdk.interrupts import set_interrupt, swallow
from kagent_sdk.worker.mailbox import Mailbox


class Work(Protocol):
    """Something for a thread to do; the attributes belong to `Threads`.

    Attributes:
        thread_ident: the thread that is armed with it; 0: none.
        has_begun: a thread has taken it.
        is_withdrawn: taken back before a thread had begun.
        is_interrupted: an interrupt was set.
    """

    thread_ident: int
    has_begun: bool
    is_withdrawn: bool
    is_interrupted: bool

    def work(self) -> None:
        """Do it, in the thread, and remember the outcome; an interrupt may escape."""

    def finish(self) -> None:
        """Hand the outcome on, in the thread, safe from interrupts."""


class Threads:
    """A pool of at most ``size`` threads, started on demand and kept.

    `submit`, `withdraw` and `interrupt` belong to the loop's thread.

    Args:
        size: how many works can be done at a time; the rest waits in order.
        name: prefix of the threads' names.
        mailbox: the way back into the loop's thread.
    """

    def __init__(self, size: int, name: str, mailbox: Mailbox) -> None:
        self.size = size
        self._name = name
        self._mailbox = mailbox
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._outstanding = 0

    @property
    def busy(self) -> int:
        """How many threads are at work."""
        return min(self._outstanding, self._started)

    def submit(self, work: Work) -> None:
        """Let a thread do it."""
        self._outstanding += 1
        self._queue.put(work)
        if self._outstanding > self._started and self._started < self.size:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def withdraw(self, work: Work) -> bool:
        """Take back a work that waits; tell whether it did (else it has begun)."""
        with self._lock:
            work.is_withdrawn = not work.has_begun
            return work.is_withdrawn

    def interrupt(self, work: Work) -> None:
        """Inject `TaskInterrupted` into the thread that is at this work, once at most.

        A thread that is inside C code sees it when it comes back to Python.
        """
        with self._lock:
            if work.thread_ident and not work.is_interrupted:
                work.is_interrupted = True
                set_interrupt(work.thread_ident, TaskInterrupted)

    def close(self) -> None:
        """Let the threads end when the queue is empty; nobody waits for them."""
        for _ in range(self._started):
            self._queue.put(None)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            self._do(work)
            del work  # an idle thread must not hold the last task's input
            self._mailbox.post(self._release)

    def _do(self, work: Work) -> None:
        try:
            if not self._arm(work):
                return
            work.work()
            self._disarm(work)
        except TaskInterrupted:
            self._disarm(work)
        work.finish()

    def _arm(self, work: Work) -> bool:
        with self._lock:
            if not work.is_withdrawn:
                work.has_begun = True
                work.thread_ident = threading.get_ident()
            return work.has_begun

    def _disarm(self, work: Work) -> None:
        with self._lock:
            work.thread_ident = 0
        if work.is_interrupted:
            swallow(TaskInterrupted)

    def _release(self) -> None:
        self._outstanding -= 1

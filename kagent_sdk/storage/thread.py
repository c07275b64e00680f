"""The one thread that works on the database, for the event loop, in groups.

What waits when the thread is free goes into one transaction, so that one commit makes many tasks
safe at once: the more there is to do, the less each of them costs.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.database import (
    Durability,
    Opened,
    is_damage,
    open_database,
    open_reader,
    suspect_mark,
)

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

MAX_GROUP = 256
"""Operations in one transaction: bounds how long the first of them waits for the last."""

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0


@dataclass(slots=True, eq=False)
class _Work:
    """One operation on its way.

    Attributes:
        must: it is repeated until it succeeds, in its order among those that must.
    """

    operation: Operation[Any]
    future: asyncio.Future[Any]
    is_read: bool = False
    must: bool = False
    outcome: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class OpenReport:
    """What opening the database has found.

    Attributes:
        is_new: there was none, or none that could be used.
        quarantined: the name of a damaged one that was put aside.
    """

    is_new: bool
    quarantined: str | None


class Storage:
    """The agent's database, for the event loop: no method blocks but `view`.

    An operation is a plain function of the connection. It runs inside a transaction that others
    share, and its future is done when that transaction is on disk. An operation that raises anything
    but `sqlite3.Error` must not have written; it then fails alone.

    Args:
        path: of the file; None keeps everything in memory.
        durability: what a commit survives.
        on_trouble: told, in the loop, of a database that does not take writes, and with None when
            it does again.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: Path | None,
        durability: Durability,
        *,
        on_trouble: Callable[[str | None], None] = lambda _trouble: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if durability == "none" else path
        self._durability = durability
        self._on_trouble = on_trouble
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._stuck: deque[_Work] = deque()
        self._retry_s = RETRY_FIRST_S
        self._trouble: str | None = None
        self._thread: threading.Thread | None = None
        self._opened: Opened | None = None
        self._is_closing = False

    @property
    def is_open(self) -> bool:
        """Whether operations are taken."""
        return self._thread is not None and not self._is_closing

    @property
    def trouble(self) -> str | None:
        """Why the database takes no writes at present, if so."""
        return self._trouble

    @property
    def path(self) -> Path | None:
        """The file; None when everything is in memory."""
        return self._path

    async def open(self) -> OpenReport:
        """Open the database and start the thread.

        Raises:
            StorageError: it cannot be opened.
        """
        opened = await asyncio.to_thread(
            open_database, self._path, self._durability, now_s=self._clock()
        )
        self._opened = opened
        self._thread = threading.Thread(target=self._work, name="storage", daemon=True)
        self._thread.start()
        name = None if opened.quarantined is None else opened.quarantined.name
        return OpenReport(opened.is_new, name)

    def write(self, operation: Operation[T], *, must: bool = False) -> asyncio.Future[T]:
        """Run an operation that writes; the future is done when that is on disk.

        Args:
            operation: what to do.
            must: what it writes cannot be refused any more: it is repeated until it succeeds, or
                the storage closes.

        Raises (the future):
            StorageError: the database did not take it.
            Exception: what the operation raised.
        """
        return self._put(_Work(operation, self._loop.create_future(), must=must))

    def read(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Run an operation that only reads: it sees all that was given to `write` before.

        Raises (the future):
            StorageError: the database cannot be read.
            Exception: what the operation raised.
        """
        return self._put(_Work(operation, self._loop.create_future(), is_read=True))

    def _put(self, work: _Work) -> asyncio.Future[Any]:
        if not self.is_open:
            work.future.set_exception(StorageError("the journal is not open"))
        else:
            self._queue.put(work)
        return work.future

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that can only read, and that sees one moment while others write.

        Blocks: use it in a thread, not in the loop.

        Raises:
            sqlite3.Error: the database cannot be read.
            StorageError: it is not open.
        """
        if self._path is not None:
            connection = open_reader(self._path)
        else:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            copied = asyncio.run_coroutine_threadsafe(self._copy(connection), self._loop)
            copied.result()
        try:
            yield connection
        finally:
            connection.close()

    async def _copy(self, target: sqlite3.Connection) -> None:
        await self.read(lambda connection: connection.backup(target))

    async def aclose(self) -> None:
        """Do what is waiting, close the database and end the thread.

        What must be written and cannot be is tried once more, and given up then.
        """
        if self._thread is None:
            return
        if not self._is_closing:
            self._is_closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # what the thread has called for last is done now

    # In the thread

    def _work(self) -> None:
        assert self._opened is not None
        connection = self._opened.connection
        try:
            is_last = False
            while not is_last:
                group, is_last = self._next_group()
                self._run(connection, group)
                if self._stuck:
                    self._retry(connection, is_last=is_last)
            self._give_up()
        finally:
            self._opened.close()

    def _next_group(self) -> tuple[list[_Work], bool]:
        """Wait for work and return all that is there; when something is stuck, not for long."""
        try:
            first = self._queue.get(timeout=self._retry_s if self._stuck else None)
        except Empty:
            return [], False
        group: list[_Work] = []
        work: _Work | None = first
        while work is not None:
            group.append(work)
            if len(group) == MAX_GROUP:
                return group, False
            try:
                work = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _run(self, connection: sqlite3.Connection, group: list[_Work]) -> None:
        if self._stuck:
            # In their order: nothing that must be written may overtake what is stuck.
            self._stuck.extend(work for work in group if work.must)
            group = [work for work in group if not work.must]
        if not group:
            return
        try:
            self._transact(connection, group)
        except (sqlite3.Error, _TornError) as error:
            if len(group) == 1:
                self._note_failure(group[0], error)
            else:
                for work in group:
                    self._run(connection, [work])
                return
        self._tell(group)

    def _transact(self, connection: sqlite3.Connection, group: Sequence[_Work]) -> None:
        """Run operations in one transaction: all of them are on disk when it returns.

        Raises:
            sqlite3.Error: nothing was written.
            _TornError: nothing was written: an operation failed in the middle of writing.
        """
        only_reads = all(work.is_read for work in group)
        if not only_reads:
            connection.execute("BEGIN IMMEDIATE")
        try:
            for work in group:
                before = connection.total_changes
                try:
                    work.outcome, work.error = work.operation(connection), None
                except sqlite3.Error:
                    raise
                except Exception as error:
                    work.outcome, work.error = None, error
                    if connection.total_changes != before and len(group) > 1:
                        raise _TornError from error
                    if connection.total_changes != before:
                        connection.execute("ROLLBACK")
                        return
            if not only_reads:
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if not only_reads and self._trouble is not None and not self._stuck:
            self._note_trouble(None)

    def _note_failure(self, work: _Work, error: Exception) -> None:
        if isinstance(error, sqlite3.Error):
            if is_damage(error) and self._path is not None:
                self._mark_suspect(self._path)
            self._note_trouble(f"the journal cannot be written or read: {error}")
        if work.must:
            self._stuck.append(work)
            return
        work.outcome = None
        work.error = StorageError(f"the journal did not take it: {error}")

    def _mark_suspect(self, path: Path) -> None:
        try:
            suspect_mark(path).touch()
        except OSError:
            return  # the disk may be what fails; the trouble is reported anyway

    def _retry(self, connection: sqlite3.Connection, *, is_last: bool) -> None:
        done: list[_Work] = []
        while self._stuck:
            work = self._stuck[0]
            try:
                self._transact(connection, [work])
            except sqlite3.Error:
                self._retry_s = RETRY_MAX_S if is_last else min(self._retry_s * 2, RETRY_MAX_S)
                break
            done.append(self._stuck.popleft())
        if not self._stuck:
            self._retry_s = RETRY_FIRST_S
            self._note_trouble(None)
        self._tell(done)

    def _give_up(self) -> None:
        for work in self._stuck:
            work.error = StorageError("the journal was closed before it could be written")
        given_up, self._stuck = list(self._stuck), deque()
        self._tell(given_up)

    def _note_trouble(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._call(self._on_trouble, trouble)

    def _tell(self, works: list[_Work]) -> None:
        told = [work for work in works if not (work.must and work in self._stuck)]
        if told:
            self._call(_resolve, told)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told


class _TornError(Exception):
    """An operation of a group wrote and then failed."""


def _resolve(works: Sequence[_Work]) -> None:
    for work in works:
        if work.future.done():
            continue  # cancelled by whoever waited
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            work.future.set_result(work.outcome)

"""The one thread that works on the database, for the event loop, in groups.

What waits when the thread is free goes into one transaction, so that one commit makes many tasks
safe at once: the more there is to do, the less each of them costs.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.database import Durability, Opened, open_database
from kagent_sdk.storage.groups import Operation, Work
from kagent_sdk.storage.receipt import Receipt
from kagent_sdk.storage.schema import AGENT_SCHEMA, Schema
from kagent_sdk.storage.views import bounded_reader
from kagent_sdk.storage.writer import MAX_GROUP, Writer

T = TypeVar("T")

__all__ = ["OpenReport", "Operation", "Storage"]


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
    share, and its future is done when that transaction is on disk. When it raises, what it has
    written is undone and it fails alone. It must leave the transaction open, and it may be run
    several times: only the last one counts. It happens also when whoever waits for its future gives
    up, unless it only reads.

    Nothing else in this process may open and close the file: that drops SQLite's locks on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2).

    Args:
        path: of the file; None keeps everything in memory.
        durability: what a commit survives.
        on_trouble: told, in the loop, of a database that does not take writes, and with None when
            it does again, which the thread finds out by itself. A damaged one stays in trouble.
        clock: seconds since the epoch.
        schema: the tables that it has.
    """

    def __init__(
        self,
        path: Path | None,
        durability: Durability,
        *,
        schema: Schema = AGENT_SCHEMA,
        on_trouble: Callable[[str | None], None] = lambda _trouble: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if durability == "none" else path
        self._durability = durability
        self._on_trouble = on_trouble
        self._clock = clock
        self._schema = schema
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._gathered: list[Work] = []
        self._trouble: str | None = None
        self._thread: threading.Thread | None = None
        self._ended = self._loop.create_future()
        self._is_open = False
        self._is_closing = False

    @property
    def is_open(self) -> bool:
        """Whether operations are taken."""
        return self._is_open

    @property
    def trouble(self) -> str | None:
        """Why the database takes no writes at present, if so."""
        return self._trouble

    @property
    def path(self) -> Path | None:
        """The file; None when everything is in memory."""
        return self._path

    async def open(self) -> OpenReport:
        """Start the thread and open the database in it.

        When it fails, it may be called again. When it is cancelled, the database is closed as soon
        as it is open; `aclose` waits for that.

        Raises:
            StorageError: it cannot be opened.
        """
        assert self._thread is None, "opened twice"
        opened: asyncio.Future[OpenReport] = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._live, args=(opened, self._ended), name="storage", daemon=True
        )
        self._thread.start()
        try:
            report = await opened
        except asyncio.CancelledError:
            self._end_soon()
            raise
        except BaseException:
            await self._wait_ended()
            self._thread = None
            raise
        self._is_open = not self._is_closing
        return report

    def write(self, operation: Operation[T], *, must: bool = False) -> asyncio.Future[T]:
        """Run an operation that writes; the future is done when that is on disk.

        Args:
            operation: what to do.
            must: what it writes cannot be refused any more: it is repeated until it succeeds, or
                the storage closes, and meanwhile no other that must comes before it. Those that need
                not are still tried.

        Raises (the future):
            StorageError: the database did not take it. A power cut or a kill at that very moment may
                leave it on disk all the same.
            Exception: what the operation raised.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(Work(operation, future, must=must))
        return future

    def post(self, operation: Operation[None], *, must: bool = False) -> Receipt:
        """Do as `write` does, for somebody who needs no future."""
        receipt = Receipt()
        self._put(Work(operation, receipt, must=must))
        return receipt

    def read(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Run an operation that only reads.

        It sees all that was given to `write` before, but for what must be written and cannot be at
        present.

        Raises (the future):
            StorageError: the database cannot be read.
            Exception: what the operation raised.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(Work(operation, future, is_read=True))
        return future

    def _put(self, work: Work) -> None:
        if self._is_open:
            # All of one turn of the loop go together: they wake the thread once, and one commit
            # is enough for them.
            if not self._gathered:
                self._loop.call_soon(self._flush)
            self._gathered.append(work)
        else:
            # Not at once: whoever asks is told later in every other case too.
            work.error = StorageError("the journal is not open")
            self._loop.call_soon(work.settle)

    def _flush(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that can only read, and that sees one moment while others write.

        Blocks: use it in a thread, not in the loop, and not for long: what is written meanwhile
        needs disk space twice. In memory it is a copy.

        Raises:
            sqlite3.Error: the database cannot be read.
            StorageError: it is not open, or too much was written meanwhile.
        """
        if not self._is_open:
            raise StorageError("the journal is not open")
        if self._path is not None:
            with bounded_reader(self._path) as connection:
                yield connection
            return
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            copied = asyncio.run_coroutine_threadsafe(self._copy(), self._loop)
            connection.deserialize(copied.result())
            yield connection
        finally:
            connection.close()

    async def _copy(self) -> bytes:
        # Not backup(): it waits for ever for a transaction of its own connection to end.
        return await self.read(lambda connection: connection.serialize())

    async def aclose(self) -> None:
        """Do what is waiting, close the database and end the thread.

        What must be written and cannot be is tried once more, and given up then. When it is
        cancelled, all that still happens.
        """
        if self._thread is None:
            return
        self._end_soon()
        await self._wait_ended()

    def _end_soon(self) -> None:
        self._is_open = False
        if not self._is_closing:
            self._is_closing = True
            self._flush()
            self._queue.put(None)

    async def _wait_ended(self) -> None:
        assert self._thread is not None
        await asyncio.shield(self._ended)
        self._thread.join()  # it has nothing left to do

    # In the thread

    def _live(self, opened: asyncio.Future[OpenReport], ended: asyncio.Future[None]) -> None:
        """Open the database, serve, and close it whatever happens."""
        try:
            database = open_database(
                self._path, self._durability, now_s=self._clock(), schema=self._schema
            )
        except BaseException as error:  # noqa: BLE001 -- it goes to whoever waits in `open`
            self._call(_settle, (opened, None, error))
        else:
            try:
                name = None if database.quarantined is None else database.quarantined.name
                report = OpenReport(database.is_new, name)
                self._call(_settle, (opened, report, None))
                self._serve(database)
            finally:
                database.close()
        finally:
            self._call(_settle, (ended, None, None))

    def _serve(self, database: Opened) -> None:
        writer = Writer(
            database.connection,
            self._path,
            tell=self._tell,
            on_trouble=self._note_trouble,
            clock=self._clock,
        )
        group: list[Work] = []
        try:
            is_last = False
            while not is_last:
                group, is_last = self._next_group(writer.patience_s)
                writer.take(group, is_last=is_last)
        except BaseException:
            self._call(self._refuse, group)
            raise
        finally:
            writer.give_up()

    def _next_group(self, patience_s: float | None) -> tuple[list[Work], bool]:
        """Wait for work and return all that is there; tell whether it is the last."""
        group: list[Work] = []
        try:
            works = self._queue.get(timeout=patience_s)
            while works is not None:
                group += [work for work in works if not work.is_unwanted]
                if len(group) >= MAX_GROUP:
                    return group, False
                works = self._queue.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _note_trouble(self, trouble: str | None) -> None:
        self._trouble = trouble
        self._call(self._on_trouble, trouble)

    def _tell(self, works: Sequence[Work]) -> None:
        self._call(_settle_all, works)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    # In the loop again

    def _refuse(self, group: Sequence[Work]) -> None:
        """Let nobody wait for ever when the thread has ended by a bug."""
        self._is_open = False
        works = [*group, *self._gathered]
        self._gathered = []
        while not self._queue.empty():
            works += self._queue.get_nowait() or ()
        error = StorageError("the journal's thread has ended")
        for work in works:
            work.error = error
        _settle_all(works)


def _settle_all(works: Sequence[Work]) -> None:
    for work in works:
        work.settle()


def _settle(answer: tuple[asyncio.Future[Any], Any, BaseException | None]) -> None:
    future, outcome, error = answer
    if future.done():
        return  # cancelled by whoever waited
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)

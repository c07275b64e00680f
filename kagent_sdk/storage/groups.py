"""Many operations in one transaction: which of them are done, and which failed alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from kagent_sdk.errors import StorageError
from kagent_sdk.storage.bulk import MAX_ROWS, Bulk, BulkRow
from kagent_sdk.storage.faults import is_fault, primary_code
from kagent_sdk.storage.receipt import Receipt

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]


@dataclass(slots=True, eq=False)
class Work:
    """One operation on its way.

    Attributes:
        must: it is repeated until it succeeds, in its order among those that must.
        outcome: what it returned, when `error` is None.
    """

    operation: Operation[Any]
    future: asyncio.Future[Any] | Receipt
    is_read: bool = False
    must: bool = False
    outcome: Any = None
    error: BaseException | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether it only reads, for somebody who does not wait any more."""
        return self.is_read and isinstance(self.future, asyncio.Future) and self.future.cancelled()

    def settle(self) -> None:
        """Tell whoever waits what became of it; in the loop."""
        future = self.future
        if isinstance(future, Receipt):
            future.settle(self.error)
        elif future.done():
            return  # cancelled by whoever waited
        elif self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.outcome)


class GroupError(Exception):
    """The group is not on disk, and nothing of it was written.

    Attributes:
        cause: why; None when an operation failed after it had written.
        is_shared: every one of the group would fail alike, so that there is no use in trying each
            by itself.
    """

    def __init__(self, cause: sqlite3.Error | None, *, is_shared: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.is_shared = is_shared


def transact(connection: sqlite3.Connection, group: Sequence[Work]) -> None:
    """Run operations in one transaction: what succeeded is on disk when it returns.

    An operation that failed by its own fault has its `error` set.

    Raises:
        GroupError: nothing was written.
    """
    if all(work.is_read for work in group):
        for work in group:
            _perform(connection, work)
        return
    arranged = list(arrange(group))
    if len(arranged) == 1 and type(group[0].operation) is BulkRow:
        # One statement is a transaction of its own: two less to wait for the interpreter's lock.
        roll_back(connection)
        if len(group) > 1:
            _perform_bulk(connection, group)
        else:
            _perform(connection, group[0])
        return
    _begin(connection)
    try:
        if _perform_all(connection, group, arranged):
            _commit(connection)
    finally:
        roll_back(connection)


def _perform_all(
    connection: sqlite3.Connection, group: Sequence[Work], arranged: Sequence[Sequence[Work]]
) -> bool:
    """Run operations, and tell whether there is something to commit.

    Raises:
        GroupError: one of them, and the others with it, must be undone.
    """
    for works in arranged:
        if len(works) > 1:
            _perform_bulk(connection, works)
            continue
        (work,) = works
        wrote = _perform(connection, work)
        if work.error is None and connection.in_transaction:
            continue
        if len(group) == 1:
            work.error = work.error or StorageError("the operation ended the transaction")
            return False
        if wrote or not connection.in_transaction:
            raise GroupError(None)
    return True


def arrange(group: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """Put operations in their order; those of several that come together are of one `Bulk`.

    Rows that come first, other writes as they came, rows that come last, and what reads: it sees all
    that was written before it was asked for, and what came later too.
    """
    bulks: dict[Bulk, list[Work]] = {}
    writes: list[Work] = []
    reads: list[Work] = []
    for work in group:
        if type(work.operation) is BulkRow:
            bulks.setdefault(work.operation.bulk, []).append(work)
        else:
            (reads if work.is_read else writes).append(work)
    yield from _chunks(works for bulk, works in bulks.items() if not bulk.is_last)
    yield from ((work,) for work in writes)
    yield from _chunks(works for bulk, works in bulks.items() if bulk.is_last)
    yield from ((work,) for work in reads)


def _chunks(bulks: Iterator[list[Work]]) -> Iterator[Sequence[Work]]:
    for works in bulks:
        for start in range(0, len(works), MAX_ROWS):
            yield works[start : start + MAX_ROWS]


def _perform_bulk(connection: sqlite3.Connection, works: Sequence[Work]) -> None:
    """Write many rows at once.

    Raises:
        GroupError: they, and the others of the group with them, must be undone.
    """
    operations = [work.operation for work in works if isinstance(work.operation, BulkRow)]
    try:
        operations[0].bulk.write(connection, [operation.values for operation in operations])
    except sqlite3.Error as error:
        # One of the rows may be to blame: then each is tried by itself.
        raise GroupError(error if is_fault(error) else None) from error
    for work in works:
        work.outcome = work.error = None


def _begin(connection: sqlite3.Connection) -> None:
    roll_back(connection)  # there is something only if an earlier rollback failed
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise GroupError(error, is_shared=True) from error


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        # There may be room for the small ones of a group that is too large for the disk.
        is_shared = primary_code(error) != sqlite3.SQLITE_FULL
        raise GroupError(error, is_shared=is_shared) from error


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo what was not committed, if anything; one that fails shows at the next BEGIN."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _perform(connection: sqlite3.Connection, work: Work) -> bool:
    """Run one operation, note what became of it, and tell whether it may have written.

    Raises:
        GroupError: the database is to blame for its failure.
    """
    before = connection.total_changes
    try:
        work.outcome, work.error = work.operation(connection), None
    except sqlite3.Error as error:
        if is_fault(error):
            is_busy = primary_code(error) == sqlite3.SQLITE_BUSY  # each would wait as long
            raise GroupError(error, is_shared=is_busy) from error
        work.outcome, work.error = None, _refusal(error)
        return True
    except StopIteration as error:
        work.outcome, work.error = None, RuntimeError("the operation raised StopIteration")
        work.error.__cause__ = error  # a future takes any exception but that one
    except Exception as error:  # noqa: BLE001 -- it goes to whoever waits for the operation
        work.outcome, work.error = None, error
    return connection.total_changes != before


def _refusal(error: sqlite3.Error) -> StorageError:
    refusal = StorageError(f"the journal did not take it: {error}")
    refusal.__cause__ = error
    return refusal

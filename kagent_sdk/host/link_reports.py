"""The outbox of the link, and which results wait in it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

from kagent_sdk.journal import outbox, reports
from kagent_sdk.journal.outbox import Message
from kagent_sdk.journal.reports import HeldResult
from kagent_sdk.link.port import Report
from kagent_sdk.protocol.link import MAX_HELD
from kagent_sdk.storage.thread import Storage

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Of reports. Above that no task is taken from the link: its result would only wait too."""


class _Totals(NamedTuple):
    pending: int
    pending_bytes: int
    dropped: int


class LinkReports:
    """Implements `kagent_sdk.link.port.ReportBox`.

    Args:
        storage: has the outbox.

    Attributes:
        pending: reports that wait.
        pending_bytes: of their payloads.
        dropped: reports that were given up, as too many waited.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._added = asyncio.Event()
        self._results: dict[str, HeldResult] = {}
        self._by_id: dict[str, str] = {}
        self.pending = 0
        self.pending_bytes = 0
        self.dropped = 0

    @property
    def added(self) -> asyncio.Event:
        """Set when there is something to send."""
        return self._added

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more is to come."""
        return self.pending_bytes > MAX_WAITING_BYTES

    async def open(self) -> None:
        """Find what the host before has left; the database is open.

        Raises:
            StorageError: it cannot be read.
        """
        self._take_totals(await self._storage.read(_read_totals))
        for result in await self._storage.read(partial(reports.read_results, limit=MAX_HELD)):
            self._hold(result)
        if self.pending:
            self._added.set()

    def note(self, message: Message) -> None:
        """Take note of a report that is in the outbox now, or that was dropped for want of room."""
        if not reports.fits(message, self.pending_bytes):
            self.dropped += 1
            return
        self.pending += 1
        self.pending_bytes += len(message.payload)
        if message.kind == "result":
            self._hold(HeldResult(message.id, message.task, message.destination))
        self._added.set()

    def _hold(self, result: HeldResult) -> None:
        # A task has one lease: what was to be told under the one before is not in the outbox any more.
        self._drop(result.task)
        self._results[result.task] = result
        self._by_id[result.id] = result.task

    def _drop(self, task: str) -> None:
        result = self._results.pop(task, None)
        if result is not None:
            del self._by_id[result.id]

    def results(self) -> Iterator[HeldResult]:
        """Iterate over the results that the orchestrator was not told, or has not answered."""
        return iter(self._results.values())

    async def first(self, limit: int, limit_bytes: int) -> list[Report]:
        """Return the oldest reports; one at least, if there is any, however large.

        Raises:
            StorageError: the journal cannot be read at present.
        """
        messages = await self._storage.read(
            partial(reports.first, limit=limit, limit_bytes=limit_bytes)
        )
        return [
            Report(
                message.id,
                message.task,
                message.destination,
                "result" if message.kind == "result" else "event",
                message.payload,
            )
            for message in messages
        ]

    async def settle(self, ids: Collection[str]) -> None:
        """Let go of reports that the orchestrator has answered.

        Raises:
            StorageError: the journal does not take it.
        """
        await self._change(partial(reports.settle, ids=tuple(ids)))
        for report_id in ids:
            task = self._by_id.get(report_id)
            if task is not None:
                self._drop(task)

    async def forget(self, task: str, lease: str) -> None:
        """Tell nothing more of a task under a lease.

        Raises:
            StorageError: the journal does not take it.
        """
        await self._change(partial(reports.forget_lease, task=task, lease=lease))
        result = self._results.get(task)
        if result is not None and result.lease == lease:
            self._drop(task)

    async def _change(self, change: Callable[[sqlite3.Connection], None]) -> None:
        def step(connection: sqlite3.Connection) -> _Totals:
            change(connection)
            return _read_totals(connection)

        self._take_totals(await self._storage.write(step))

    def _take_totals(self, totals: _Totals) -> None:
        self.pending, self.pending_bytes, self.dropped = totals


def _read_totals(connection: sqlite3.Connection) -> _Totals:
    stats = outbox.stats(connection, "link")
    return _Totals(stats.pending, stats.pending_bytes, stats.dropped)

"""Finds tasks of which one does not know the agent, or not the id: for people who look."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.record_store import RecordError, RecordStore
from kagent_sdk.link.nats.records import TaskRecord

if TYPE_CHECKING:
    from kagent_sdk.link.nats.connection import Bus

MAX_READ = 5_000
"""Records that are read for one answer, the newest; of the others the server sends the keys alone."""

MAX_KEYS = 1_000_000
_ROUTES = names.route_key("")


class TaskIndex:
    """Reads the bucket of records. All methods raise `FAILURES` when the server is away."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._records = RecordStore(bus)

    async def newest(
        self, limit: int, wanted: Callable[[TaskRecord], bool], agent: str | None = None
    ) -> list[TaskRecord]:
        """Return the tasks that were changed last, the newest first.

        Args:
            limit: at most so many.
            wanted: which of them.
            agent: of that one alone, by name; None: of all.
        """
        found: list[TaskRecord] = []
        for key in await self._keys(">" if agent is None else f"{names.token(agent)}.>"):
            record = await self._read(key)
            if record is not None and wanted(record):
                found.append(record)
                if len(found) >= limit:
                    break
        return found

    async def of_id(self, task: str) -> list[TaskRecord]:
        """Return the tasks of an id: one of each agent that was sent one."""
        found = [await self._read(key) for key in await self._keys(f"*.{names.token(task)}")]
        return [record for record in found if record is not None]

    async def _read(self, key: str) -> TaskRecord | None:
        try:
            return (await self._records.read_key(key)).record
        except RecordError:
            return None  # somebody has written what no agent writes: one line less

    async def _keys(self, pattern: str) -> list[str]:
        """Return keys of records, those written last first."""
        watcher = await self._bus.tasks.watch(pattern, ignore_deletes=True, meta_only=True)
        timeout_s = self._bus.access.timeout_s
        newest: list[tuple[int, str]] = []
        try:
            for _ in range(MAX_KEYS):
                one = await watcher.updates(timeout_s)  # type: ignore[no-untyped-call]
                if one is None:
                    break
                if not one.key.startswith(_ROUTES):
                    keep = heapq.heappush if len(newest) < MAX_READ else heapq.heappushpop
                    keep(newest, (one.revision or 0, one.key))
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]
        return [key for _, key in sorted(newest, reverse=True)]

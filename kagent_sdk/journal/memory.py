"""A journal that lives in memory: bounded by age, number and bytes, gone with the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from kagent_sdk.journal.events import Event
from kagent_sdk.journal.port import Page, Query
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.state import Transaction


class MemoryJournal:
    """Implements `kagent_sdk.journal.port.Journal` without a disk.

    Open tasks are kept always (admission bounds them); of the finished ones the oldest go first.

    Args:
        retention_s: how long a finished task stays.
        retention_count: how many finished tasks stay.
        retention_bytes: how many bytes of finished tasks stay.
    """

    def __init__(self, *, retention_s: float, retention_count: int, retention_bytes: int) -> None:
        self._retention_s = retention_s
        self._retention_count = retention_count
        self._retention_bytes = retention_bytes
        self._records: OrderedDict[str, TaskRecord] = OrderedDict()
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._finished_bytes = 0

    def configure(self, *, retention_s: float, retention_count: int, retention_bytes: int) -> None:
        """Change the bounds; what is over them goes with the next end of a task, or `expire`."""
        self._retention_s = retention_s
        self._retention_count = retention_count
        self._retention_bytes = retention_bytes

    @property
    def kept(self) -> int:
        """How many tasks are kept, open ones included."""
        return len(self._records)

    @property
    def kept_bytes(self) -> int:
        """Roughly how many bytes the finished ones hold."""
        return self._finished_bytes

    def declare(self, manifests: Iterable[CapabilityManifest]) -> None:
        """Do nothing: every record has its own."""

    def accepted(self, record: TaskRecord) -> None:
        """Keep a new task; it is as safe as memory can be at once."""
        self._records[record.id] = record

    def started(self, record: TaskRecord) -> None:
        """Do nothing: the record says so itself; here and below."""

    def requeued(self, record: TaskRecord) -> None:
        """Do nothing."""

    def event(self, record: TaskRecord, event: Event) -> None:
        """Do nothing."""

    def end(self, record: TaskRecord, ending: Ending, transaction: Transaction | None) -> None:
        """Do nothing."""

    def ended(self, record: TaskRecord) -> None:
        """Keep a task's end, and let go of the oldest ones over the bounds."""
        if record.id not in self._records or record.id in self._finished:
            return
        size = record.size_bytes
        self._finished[record.id] = size
        self._finished_bytes += size
        while self._finished and (
            len(self._finished) > self._retention_count
            or self._finished_bytes > self._retention_bytes
        ):
            self._forget_oldest()

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or finished and still retained."""
        return self._records.get(task_id)

    async def recall(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or finished and still retained."""
        return self.find(task_id)

    def newest_first(self) -> Iterator[TaskRecord]:
        """Iterate over all kept tasks, the newest accepted one first."""
        return reversed(self._records.values())

    async def page(self, query: Query) -> Page:
        """Return tasks, the newest first."""
        records: list[TaskRecord] = []
        is_behind = query.after is None
        for record in self.newest_first():
            if not is_behind:
                is_behind = record.id == query.after
            elif query.admits(record):
                if len(records) == query.limit:
                    return Page(records, records[-1].id)
                records.append(record)
        return Page(records, None)

    def expire(self, now_s: float) -> None:
        """Let go of finished tasks past their retention."""
        while self._finished:
            oldest = self._records[next(iter(self._finished))]
            if oldest.finished_at is not None and oldest.finished_at > now_s - self._retention_s:
                break
            self._forget_oldest()

    def forget(self, record: TaskRecord) -> None:
        """Let go of a finished task before its time."""
        if self._records.pop(record.id, None) is not None:
            self._finished_bytes -= self._finished.pop(record.id, 0)

    def _forget_oldest(self) -> None:
        task_id, size = self._finished.popitem(last=False)
        self._finished_bytes -= size
        del self._records[task_id]

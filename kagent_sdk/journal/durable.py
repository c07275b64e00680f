"""The journal on disk: what is acknowledged is in the database, and what ended is read from it."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

from kagent_sdk.errors import StorageError
from kagent_sdk.journal import rows
from kagent_sdk.journal.events import Event, EventLog
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.journal.port import Page, Query
from kagent_sdk.journal.pruning import Pruner
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.journal.retention import Retention
from kagent_sdk.journal.rows import StoredTask
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.state import Transaction
from kagent_sdk.protocol.tasks import FINAL_STATES
from kagent_sdk.storage.groups import Operation
from kagent_sdk.storage.receipt import Receipt
from kagent_sdk.storage.thread import Storage

if TYPE_CHECKING:
    from kagent_sdk.journal.outbox import Channel, Message

MAX_RECENT = 1000
MAX_RECENT_BYTES = 8 * 1024 * 1024
"""Finished tasks that stay in memory too: most are asked for right after their end, or never."""

TRIM_EVERY = 256
"""Events of a task between two removals of those that nobody can replay any more."""

Build = Callable[[StoredTask, CapabilityManifest], TaskRecord]
ApplyState = Callable[[sqlite3.Connection, Transaction], int]


@dataclass(frozen=True, slots=True)
class EventBounds:
    """How much of a task's events can be replayed."""

    max_events: int
    max_bytes: int


class DurableJournal:
    """Implements `kagent_sdk.journal.port.Journal` on the agent's database.

    Args:
        storage: the database.
        memory: keeps the tasks that are not durable.
        retention: bounds what stays of the durable ones.
        events: bounds of the events that are read back.
        build: makes the record of a task that was read.
        apply_state: changes the state, inside the transaction that ends a task.

    Attributes:
        listeners: told of every message that is in the outbox now, by the channel.
    """

    def __init__(
        self,
        storage: Storage,
        memory: MemoryJournal,
        retention: Retention,
        events: EventBounds,
        *,
        build: Build,
        apply_state: ApplyState,
    ) -> None:
        self._storage = storage
        self._memory = memory
        self._retention = retention
        self._events = events
        self._build = build
        self._apply_state = apply_state
        self._manifests: dict[str, tuple[CapabilityManifest, str]] = {}
        self._open: dict[str, TaskRecord] = {}
        self._recent: OrderedDict[str, TaskRecord] = OrderedDict()
        self._recent_bytes = 0
        self._recalls = 0
        self._pruner = Pruner(storage, retention, self._note_gone)
        self.listeners: dict[Channel, Callable[[Message], None]] = {}

    async def open(self) -> tuple[list[TaskRecord], int]:
        """Read what the host before has left.

        Returns:
            The tasks that have not ended, the oldest first, and the last sequence number.

        Raises:
            StorageError: it cannot be read.
        """
        self._keep_manifests(
            [(digest, manifest.model_dump_json()) for manifest, digest in self._manifests.values()]
        )
        totals = await self._storage.read(rows.read_totals)
        self._retention.finished += totals.finished
        self._retention.finished_bytes += totals.finished_bytes
        for row in await self._storage.read(rows.read_open):
            self._open[row.id] = await self._revive(row)
        self._pruner.shrink()  # the host before may have been stopped in the middle of it
        return list(self._open.values()), totals.last_sequence

    def declare(self, manifests: Iterable[CapabilityManifest]) -> None:
        """Keep the capabilities that tasks may name from now on."""
        documents: list[tuple[str, str]] = []
        for manifest in manifests:
            document = manifest.model_dump_json()
            digest = blake2b(document.encode(), digest_size=16).hexdigest()
            self._manifests[manifest.name] = manifest, digest
            documents.append((digest, document))
        # A worker may be there before the database is: then `open` keeps what it has declared.
        if self._storage.is_open:
            self._keep_manifests(documents)

    def _keep_manifests(self, documents: list[tuple[str, str]]) -> None:
        _forget(self._storage.post(partial(rows.declare, manifests=documents), must=True))

    def accepted(self, record: TaskRecord) -> Receipt | None:
        """Keep a new task as it is now."""
        if not record.is_durable:
            self._memory.accepted(record)
            return None
        self._open[record.id] = record
        row = rows.pack(record, self._manifests[record.capability.name][1])
        receipt = self._storage.post(rows.INSERT.row(row))
        receipt.tell(partial(self._note_accepted, record.id))
        return receipt

    def _note_accepted(self, task_id: str, error: BaseException | None) -> None:
        if error is not None:
            self._open.pop(task_id, None)

    def started(self, record: TaskRecord) -> Receipt | None:
        """Note that a worker is about to be given a task."""
        if not record.is_durable:
            return None
        note = partial(
            rows.start, seq=record.sequence, attempt=record.attempt, started_at=record.started_at
        )
        return self._storage.post(note, must=True)

    def requeued(self, record: TaskRecord) -> None:
        """Note that a task waits for a worker again."""
        if record.is_durable:
            note = partial(
                rows.requeue,
                seq=record.sequence,
                attempt=record.attempt,
                conflicts=record.conflicts,
            )
            _forget(self._storage.post(note, must=True))

    def event(self, record: TaskRecord, event: Event) -> Receipt | None:
        """Keep an event."""
        if record.is_finished:
            return None
        report = None if record.lease is None else _report_event(record, event)
        if not record.is_durable:
            return None if report is None else self._post_messages(_put, (report,))
        log = record.events
        if log is not None and event.id % TRIM_EVERY == 0 and log.first_id > 1:
            trim = partial(rows.trim_events, seq=record.sequence, first_id=log.first_id)
            _forget(self._storage.post(trim, must=True))
        add = partial(rows.add_event, seq=record.sequence, attempt=record.attempt, event=event)
        if report is None:
            return self._storage.post(add, must=True)
        return self._post_messages(partial(_put, first=add), (report,))

    def end(
        self, record: TaskRecord, ending: Ending, transaction: Transaction | None
    ) -> Receipt | None:
        """Keep a task's end, and in one step with it what the task changed in the state."""
        end = None
        if record.is_durable:
            end = rows.pack_end(record, ending)
            record.stored_bytes = end.size_bytes
        messages = _messages(record, ending)
        if end is None and transaction is None and not messages:
            return None
        if end is not None and transaction is None and not messages:
            return self._storage.post(rows.FINISH.row(end), must=True)  # with those of other tasks
        return self._post_messages(partial(self._end, end=end, transaction=transaction), messages)

    def _post_messages(self, step: Callable[..., None], messages: tuple[Message, ...]) -> Receipt:
        """Do what takes ``messages``, and tell of them when they are on disk."""
        receipt = self._storage.post(partial(step, messages=messages), must=True)
        if messages:
            receipt.tell(partial(self._note_messages, messages))
        return receipt

    def _note_messages(self, messages: tuple[Message, ...], error: BaseException | None) -> None:
        if error is not None:
            return
        for message in messages:
            listener = self.listeners.get(message.channel)
            if listener is not None:
                listener(message)

    def _end(
        self,
        connection: sqlite3.Connection,
        messages: tuple[Message, ...],
        end: rows.End | None,
        transaction: Transaction | None,
    ) -> None:
        # The state first: it may refuse, and nothing must be written then.
        if transaction is not None:
            self._apply_state(connection, transaction)
        if end is not None:
            rows.FINISH.write(connection, (end,))
        _put(connection, messages)

    def lease(self, record: TaskRecord, lease: str | None) -> Receipt:
        """Let a task have another lease, or none; a task that has ended is told of again.

        What waits to be told under the lease before is let go.
        """
        record.lease = lease
        ending = record.ending
        result = None
        if ending is not None and ending.state in FINAL_STATES:
            result = _report_result(record, ending)
        step = partial(_set_lease, task=record.id, lease=lease)
        return self._post_messages(step, () if result is None else (result,))

    def forget(self, record: TaskRecord) -> Receipt:
        """Let go of a finished task before its time: its id is free when the receipt is settled."""
        if not record.is_durable:
            self._memory.forget(record)
        elif self._open.get(record.id) is not record:
            self._retention.finished -= 1
            self._retention.finished_bytes -= record.stored_bytes
            self._drop_recent(record.id)
        return self._storage.post(partial(rows.forget, task_id=record.id), must=True)

    @property
    def open_tasks(self) -> Iterable[TaskRecord]:
        """The durable tasks that have not ended."""
        return self._open.values()

    def ended(self, record: TaskRecord) -> None:
        """Take note that the record shows its end now."""
        if not record.is_durable:
            self._memory.ended(record)
            return
        self._open.pop(record.id, None)
        self._remember(record)
        self._retention.finished += 1
        self._retention.finished_bytes += record.stored_bytes
        if self._retention.is_over:
            self._pruner.prune()

    def find(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or that ended a short while ago."""
        return self._open.get(task_id) or self._recent.get(task_id) or self._memory.find(task_id)

    async def recall(self, task_id: str) -> TaskRecord | None:
        """Return a task that is open, or that ended and is still retained.

        Raises:
            StorageError: the database cannot be read.
        """
        record = self.find(task_id)
        if record is not None:
            return record
        # While somebody looks at the disk nobody leaves the memory: so a task that ends meanwhile
        # is found in one place or the other.
        self._recalls += 1
        try:
            row = await self._storage.read(partial(rows.find, task_id=task_id))
            known = self.find(task_id)
            if known is not None or row is None:
                return known
            record = await self._revive(row)
            known = self.find(task_id)
            if known is None and record.is_finished:
                self._remember(record)
            return known or record
        finally:
            self._recalls -= 1

    async def page(self, query: Query) -> Page:
        """Return tasks, the newest first.

        Raises:
            StorageError: the database cannot be read.
        """
        before = None if query.after is None else await self._find_sequence(query.after)
        if before is None and query.after is not None:
            return Page([], None)
        stored = await self._storage.read(
            partial(
                rows.read_page,
                before=before,
                state=query.state,
                capability=query.capability,
                limit=query.limit + 1,
            )
        )
        # What is open is newer in memory than on disk.
        records = [self._open.get(row.id) or self._show(row) for row in stored]
        records += [
            record
            for record in self._memory.newest_first()
            if (before is None or record.sequence < before) and query.admits(record)
        ]
        records.sort(key=lambda record: record.sequence, reverse=True)
        following = records[query.limit - 1].id if len(records) > query.limit else None
        return Page(records[: query.limit], following)

    async def _find_sequence(self, task_id: str) -> int | None:
        known = self.find(task_id)
        if known is not None:
            return known.sequence
        return await self._storage.read(partial(rows.find_sequence, task_id=task_id))

    def expire(self, now_s: float) -> None:
        """Let go of finished tasks past their retention, some at a time."""
        self._memory.expire(now_s)
        if self._storage.is_open:
            self._pruner.prune(now_s - self._retention.age_s)

    def configure(self, *, retention_s: float, retention_count: int, retention_bytes: int) -> None:
        """Change how long, how many, and how many bytes of finished tasks stay."""
        self._retention.configure(retention_s, retention_count, retention_bytes)
        self._memory.configure(
            retention_s=retention_s,
            retention_count=retention_count,
            retention_bytes=retention_bytes,
        )

    @property
    def kept(self) -> int:
        """How many tasks are kept, open ones included."""
        return len(self._open) + self._retention.finished + self._memory.kept

    @property
    def kept_bytes(self) -> int:
        """Roughly how many bytes the finished ones hold."""
        return self._retention.finished_bytes + self._memory.kept_bytes

    def _note_gone(self, gone: list[str]) -> None:
        for task_id in gone:
            self._drop_recent(task_id)

    async def _revive(self, row: StoredTask) -> TaskRecord:
        """Make the record of a row, with its events."""
        document = await self._storage.read(partial(rows.read_manifest, manifest_id=row.manifest))
        record = self._build(row, _read_manifest(row, document))
        rows.unpack(row, record)
        events = await self._storage.read(partial(rows.read_events, seq=row.seq))
        if events:
            record.events = self._fill(events)
            if record.is_finished:
                event = record.events.append("task", record.document())
                record.events.release(event.id)
        return record

    def _show(self, row: StoredTask) -> TaskRecord:
        """Make a record that can be shown in a list, and nothing else."""
        record = TaskRecord(
            row.id,
            _read_manifest(row, None),
            row.input,
            created_at=row.created_at,
            sequence=row.seq,
        )
        rows.unpack(row, record)
        return record

    def _fill(self, events: list[Event]) -> EventLog:
        bounds = self._events
        log = EventLog(
            max_events=bounds.max_events, max_bytes=bounds.max_bytes, last_id=events[0].id - 1
        )
        for event in events:
            log.append(event.kind, event.data)
        log.release(log.last_id)
        return log

    def _remember(self, record: TaskRecord) -> None:
        self._recent[record.id] = record
        self._recent_bytes += record.stored_bytes
        while self._recent and not self._recalls and self._is_recent_full():
            self._drop_recent(next(iter(self._recent)))

    def _is_recent_full(self) -> bool:
        return len(self._recent) > MAX_RECENT or self._recent_bytes > MAX_RECENT_BYTES

    def _drop_recent(self, task_id: str) -> None:
        record = self._recent.pop(task_id, None)
        if record is not None:
            self._recent_bytes -= record.stored_bytes


def _messages(record: TaskRecord, ending: Ending) -> tuple[Message, ...]:
    """Return what the end of a task puts into the outbox."""
    found: list[Message | None] = []
    if record.callback_url is not None:
        from kagent_sdk.journal.callbacks import callback_message  # noqa: PLC0415 - few have any

        found.append(callback_message(record, ending))
    if record.lease is not None:
        found.append(_report_result(record, ending))
    return tuple(message for message in found if message is not None)


def _report_result(record: TaskRecord, ending: Ending) -> Message | None:
    from kagent_sdk.journal.reports import report_result  # noqa: PLC0415 - few agents have a link

    return report_result(record, ending)


def _report_event(record: TaskRecord, event: Event) -> Message | None:
    from kagent_sdk.journal.reports import report_event  # noqa: PLC0415 - as above

    return report_event(record, event, time.time())


def _set_lease(
    connection: sqlite3.Connection, messages: tuple[Message, ...], task: str, lease: str | None
) -> None:
    from kagent_sdk.journal.reports import set_lease  # noqa: PLC0415 - as above

    set_lease(connection, task, lease, messages[0] if messages else None)


def _put(
    connection: sqlite3.Connection,
    messages: tuple[Message, ...],
    first: Operation[None] | None = None,
) -> None:
    """Put messages into the outbox, in one step with an operation before."""
    if first is not None:
        first(connection)
    if not messages:
        return
    from kagent_sdk.journal import outbox, reports  # noqa: PLC0415 - as in `_messages`

    for message in messages:
        if message.channel == "link":
            reports.add(connection, message)
        else:
            outbox.add(connection, message)


def _read_manifest(row: StoredTask, document: str | None) -> CapabilityManifest:
    if document is not None:
        try:
            return CapabilityManifest.model_validate_json(document)
        except ValueError:
            pass  # of another release: what is not known of it is assumed to be dangerous
    return CapabilityManifest(name=row.capability, input_schema={}, output_schema={})


def _forget(receipt: Receipt) -> None:
    """Do without the outcome: the storage tells of trouble by itself."""
    receipt.tell(_see_faults)


def _see_faults(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, StorageError):
        raise error  # a fault of ours: the loop tells of it

"""What the host does with the frames of a worker that are about the state; it trusts none of them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from kagent_sdk.errors import (
    ProtocolError,
    StateConflictError,
    StateError,
    StateQuotaError,
    StorageError,
)
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.worker_connection import FrameHandler, WorkerConnection
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.json_text import SMALL_BYTES, is_json
from kagent_sdk.protocol.state import (
    MAX_PAGE_BYTES,
    Get,
    Items,
    Page,
    Transaction,
    decode_request,
    decode_transaction,
    encode_committed,
    encode_page,
    encode_refused,
)
from kagent_sdk.state.store import get, page, usage

MAX_OPEN_REQUESTS = 1000
MAX_OPEN_BYTES = 32 * MAX_PAGE_BYTES
"""Of one worker: what its open requests take in memory, their answers included."""


@dataclass(slots=True, eq=False)
class _Desk:
    """The open requests of one worker."""

    count: int = 0
    size_bytes: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_room(self) -> bool:
        return self.count < MAX_OPEN_REQUESTS and self.size_bytes < MAX_OPEN_BYTES

    async def wait_room(self) -> None:
        while not self.has_room:
            self.room.clear()
            await self.room.wait()

    def take(self, size_bytes: int) -> None:
        self.count += 1
        self.size_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        self.count -= 1
        self.size_bytes -= size_bytes
        self.room.set()


class StateFrames:
    """Answers STATE frames from the database, and keeps COMMIT frames for the end of their task.

    A worker that asks faster than it is answered is not read until there is room.

    Args:
        keeper: has the database, and knows when the state is there.
        clock: seconds since the epoch.
    """

    def __init__(self, keeper: StateKeeper, *, clock: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._clock = clock
        self._desks: dict[WorkerConnection, _Desk] = {}

    def handlers(self) -> dict[int, FrameHandler]:
        """Return what to call for each kind of frame."""
        return {Kind.STATE: self.on_state, Kind.COMMIT: self.on_commit}

    def forget(self, connection: WorkerConnection) -> None:
        """Drop what is known of a lost worker."""
        self._desks.pop(connection, None)

    def on_state(
        self, connection: WorkerConnection, number: int, payload: bytes
    ) -> Coroutine[None, None, None] | None:
        """Take a STATE frame; its STATE_ANSWER goes back when it is done, and on disk."""
        desk = self._desks.get(connection)
        if desk is None:
            desk = self._desks[connection] = _Desk()
        if len(payload) > SMALL_BYTES or not desk.has_room or not self._keeper.is_open:
            return self._begin_later(connection, desk, number, payload)
        self._begin(connection, desk, number, _read_request(payload))
        return None

    def on_commit(
        self, connection: WorkerConnection, number: int, payload: bytes
    ) -> Coroutine[None, None, None] | None:
        """Keep what a task has read and wants to write; what comes after its end is dropped."""
        task = connection.calls.get(number)
        if task is None or task.is_ended:
            return None
        if len(payload) > SMALL_BYTES:
            return self._keep_later(connection, number, payload)
        self._keep(connection, number, _read_transaction(payload))
        return None

    async def _keep_later(self, connection: WorkerConnection, number: int, payload: bytes) -> None:
        self._keep(connection, number, await asyncio.to_thread(_read_transaction, payload))

    def _keep(self, connection: WorkerConnection, number: int, transaction: Transaction) -> None:
        task = connection.calls.get(number)
        if task is None or task.is_ended:
            return
        if task.transaction is not None:
            raise ProtocolError(f"a second COMMIT frame for the same attempt: {number}")
        task.transaction = transaction

    async def _begin_later(
        self, connection: WorkerConnection, desk: _Desk, number: int, payload: bytes
    ) -> None:
        request = await asyncio.to_thread(_read_request, payload)
        await self._keeper.wait_open()
        await desk.wait_room()
        self._begin(connection, desk, number, request)

    def _begin(
        self,
        connection: WorkerConnection,
        desk: _Desk,
        number: int,
        request: Get | Items | Transaction,
    ) -> None:
        if isinstance(request, Transaction):
            size_bytes = sum(len(write.value or b"") for write in request.writes)
            answer = self._keeper.storage.write(lambda database: self._commit(database, request))
        else:
            size_bytes = MAX_PAGE_BYTES
            answer = self._keeper.storage.read(lambda database: self._look(database, request))

        def reply(done: asyncio.Future[bytes]) -> None:
            desk.give(size_bytes)
            if done.cancelled():
                return
            connection.send(Kind.STATE_ANSWER, number, self._outcome(done))

        desk.take(size_bytes)
        answer.add_done_callback(reply)
        connection.hold_reading()

    def _outcome(self, done: asyncio.Future[bytes]) -> bytes:
        try:
            return done.result()
        except StorageError as exc:
            error = {"code": "state_unavailable", "message": str(exc)}
            return encode_refused(error, self._keeper.usage.used_bytes)

    # In the thread of the database

    def _look(self, database: sqlite3.Connection, request: Get | Items) -> bytes:
        now_s = self._clock()
        if isinstance(request, Items):
            found = page(database, request.prefix, request.after, request.limit, now_s)
        else:
            item = get(database, request.key, now_s)
            found = Page(() if item is None else (item,), has_more=False)
        return encode_page(found, usage(database).used_bytes)

    def _commit(self, database: sqlite3.Connection, transaction: Transaction) -> bytes:
        try:
            version = self._keeper.apply(database, transaction)
        except StateError as exc:
            return encode_refused(_refusal(exc), usage(database).used_bytes)
        return encode_committed(version, usage(database).used_bytes)


def _refusal(error: StateError) -> dict[str, object]:
    refusal: dict[str, object] = {"code": "state_unavailable", "message": str(error)}
    if isinstance(error, StateConflictError):
        refusal |= {"code": "state_conflict", "keys": error.keys}
    elif isinstance(error, StateQuotaError):
        refusal |= {
            "code": "state_quota_exceeded",
            "used_bytes": error.used_bytes,
            "quota_bytes": error.quota_bytes,
        }
    return refusal


def _read_request(payload: bytes) -> Get | Items | Transaction:
    request = decode_request(payload)
    if isinstance(request, Transaction):
        _check_values(request)
    return request


def _read_transaction(payload: bytes) -> Transaction:
    transaction = decode_transaction(payload)
    _check_values(transaction)
    return transaction


def _check_values(transaction: Transaction) -> None:
    for write in transaction.writes:
        if write.value is not None and not is_json(write.value):
            raise ProtocolError("malformed transaction: a value is not JSON, or nests too deeply")

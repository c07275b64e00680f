"""Snapshots in the object store: archives by name, as a host has made them."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING

from nats.js.errors import NotFoundError

from kagent_sdk.errors import LinkError
from kagent_sdk.link.nats import jobs, names, streams
from kagent_sdk.link.nats.blobs import BlobMissingError
from kagent_sdk.link.nats.connection import FAILURES, Access, Bus, describe
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.settings import LinkTls

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.object_store import ObjectStore

CONNECT_S = 10.0
REQUEST_S = 10.0
STILL_S = 30.0
"""A server that sends or takes no piece for so long has failed."""

OnBytes = Callable[[int], None]
"""Told of bytes that went over the network; may raise, to give up."""


class SnapshotShelf:
    """Keeps the archives of snapshots in the bucket ``KAGENT_SNAPSHOTS``. All methods raise `FAILURES`."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def put(self, file: IO[bytes], name: str, on_bytes: OnBytes) -> None:
        """Keep an archive; it is read in a thread, piece by piece."""
        store = await self._store()
        async with asyncio.timeout(STILL_S) as time:
            # The client takes what has `readinto`; the hint that it gives is narrower.
            await store.put(name, _Pieces(file, on_bytes, time))

    async def get(self, name: str, into: IO[bytes], max_bytes: int, on_bytes: OnBytes) -> None:
        """Write an archive to a file, in a thread; its digest has been compared when this returns.

        Raises:
            BlobMissingError: there is none, or it is larger.
        """
        store = await self._store()
        try:
            size = (await store.get_info(name)).size or 0
            if size > max_bytes:
                raise BlobMissingError(f"{name} has {size} bytes, over {max_bytes}")
            async with asyncio.timeout(STILL_S) as time:
                await store.get(name, _Pieces(into, on_bytes, time))
        except NotFoundError:
            raise BlobMissingError(f"there is no snapshot {name}") from None

    async def sizes(self) -> dict[str, int]:
        """Return the names of all that is kept, and how many bytes each has."""
        store = await self._store()
        try:
            return {
                info.name: info.size or 0
                for info in await store.list()
                if info.name and not info.deleted
            }
        except NotFoundError:
            return {}

    async def remove(self, name: str) -> None:
        """Remove an archive; one that is not there makes no difference."""
        store = await self._store()
        try:
            await store.delete(name)
        except NotFoundError:
            return

    async def _store(self) -> ObjectStore:
        return await streams.open_store(self._js, names.SNAPSHOTS, None)


class _Pieces(io.BufferedIOBase):
    """A file whose every piece is told of, and gives the whole more time."""

    def __init__(self, file: IO[bytes], on_bytes: OnBytes, time: asyncio.Timeout) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._time = time
        self._loop = asyncio.get_running_loop()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read the next piece; in a thread."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._note(len(data))
        return len(data)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write a piece; in a thread."""
        self._file.write(data)
        self._note(len(data))
        return len(data)

    def _note(self, count: int) -> None:
        self._on_bytes(count)
        self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        if not self._time.expired():
            self._time.reschedule(self._loop.time() + STILL_S)


@asynccontextmanager
async def connect_shelf(
    url: str, *, token: str | None, tls: LinkTls | None
) -> AsyncIterator[SnapshotShelf]:
    """Give the shelf of a server.

    Raises:
        LinkError: the server cannot be used, or not in time; also what fails inside.
    """
    access = Access(
        url=url,
        name="kOS snapshots",
        inbox=f"_INBOX_{secrets.token_hex(8)}",
        timeout_s=REQUEST_S,
        token=lambda: token,
        tls=tls,
    )
    bus = Bus(access, NatsLimits())
    try:
        try:
            await jobs.finish(bus.connect(), CONNECT_S)
            yield SnapshotShelf(bus.js)
        except jobs.OverdueError:
            raise LinkError(bus.last_error or "no NATS server answers") from None
        except FAILURES as exc:
            raise LinkError(describe(exc)) from exc
    finally:
        await bus.close()

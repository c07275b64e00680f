"""Snapshots in the object store: archives by name, as a host has made them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from kagent_sdk.link.nats import names, streams
from kagent_sdk.link.nats.blobs import BlobMissingError

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.object_store import ObjectStore


class SnapshotShelf:
    """Keeps the archives of snapshots in the bucket ``KAGENT_SNAPSHOTS``. All methods raise `FAILURES`."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def put(self, archive: Path, name: str) -> None:
        """Keep an archive; it is read in a thread, piece by piece."""
        store = await self._store()
        with archive.open("rb") as file:
            await store.put(name, file)

    async def get(self, name: str, into: Path, max_bytes: int) -> None:
        """Write an archive to a file; its digest has been compared when this returns.

        Raises:
            BlobMissingError: there is none, or it is larger.
        """
        store = await self._store()
        try:
            size = (await store.get_info(name)).size or 0
            if size > max_bytes:
                raise BlobMissingError(f"{name} has {size} bytes, over {max_bytes}")
            with into.open("wb") as file:
                await store.get(name, file)
        except NotFoundError:
            raise BlobMissingError(f"there is no snapshot {name}") from None

    async def names(self) -> list[str]:
        """Return the names of all that is kept."""
        store = await self._store()
        try:
            return sorted(info.name for info in await store.list())
        except NotFoundError:
            return []

    async def _store(self) -> ObjectStore:
        return await streams.open_store(self._js, names.SNAPSHOTS, None)

"""Bodies that are too large for a message, in the object store.

A message that stands for one has the name of the object in its header, and no body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

OBJECT_HEADER = "Klink-Object"
SECONDS_PER_MEGABYTE = 2.0
"""What a slow connection may take for large bodies, on top of the time for one request."""


class BlobMissingError(Exception):
    """There is no such object any more, or it is larger than it may be."""


class Blobs:
    """Large bodies by name."""

    def __init__(self, store: ObjectStore, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s

    async def put(self, name: str, body: bytes) -> None:
        """Keep a body.

        Raises:
            FAILURES: it is not kept.
        """
        async with asyncio.timeout(self._allowance(len(body))):
            await self._store.put(name, body)

    async def get(self, name: str, max_bytes: int) -> bytes:
        """Return a body.

        Raises:
            BlobMissingError: there is none, or it is larger.
            FAILURES: the server does not answer.
        """
        try:
            info = await self._store.get_info(name)
            size = info.size or 0
            if size > max_bytes:
                raise BlobMissingError(f"the object has {size} bytes, over {max_bytes}")
            async with asyncio.timeout(self._allowance(size)):
                body = (await self._store.get(name)).data
        except NotFoundError:
            raise BlobMissingError("the object is gone") from None
        return bytes(body or b"")

    async def pack(self, name: str, body: bytes, inline_bytes: int) -> tuple[bytes, dict[str, str]]:
        """Return the body of a message and its header, having kept a large body first.

        Raises:
            FAILURES: it is not kept.
        """
        if len(body) <= inline_bytes:
            return body, {}
        await self.put(name, body)
        return b"", {OBJECT_HEADER: name}

    async def unpack(
        self, body: bytes | None, headers: Mapping[str, str] | None, max_bytes: int
    ) -> bytes:
        """Return the body that a message has, or stands for.

        Raises:
            BlobMissingError: as `get`.
            FAILURES: the server does not answer.
        """
        name = headers.get(OBJECT_HEADER) if headers else None
        if name is None:
            return body or b""
        return await self.get(name, max_bytes)

    def _allowance(self, size_bytes: int) -> float:
        return self._timeout_s + SECONDS_PER_MEGABYTE * size_bytes / 1_000_000

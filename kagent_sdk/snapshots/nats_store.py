"""The object store of NATS as a destination (the extra ``[nats]``): ``nats://HOST:PORT``."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit

from kagent_sdk.errors import LinkError, SnapshotError
from kagent_sdk.link.settings import LinkTls
from kagent_sdk.snapshots.naming import parse_name, pick_outdated
from kagent_sdk.snapshots.partials import open_partial
from kagent_sdk.snapshots.port import MAX_LISTED, OnBytes, Stored

if TYPE_CHECKING:
    from kagent_sdk.link.nats.snapshots import SnapshotShelf

T = TypeVar("T")

SCHEMES = ("nats", "tls")
INSTALL = "pip install 'kagent-sdk[nats]'"


@dataclass(frozen=True, slots=True)
class NatsAccess:
    """As whom to connect to NATS: as the agent's link does.

    Attributes:
        token: returns the one to show; None for none.
        tls: authorities and certificate.
    """

    token: Callable[[], str | None] = field(default=lambda: None, repr=False)
    tls: LinkTls | None = None


class NatsDestination:
    """Keeps snapshots in the bucket ``KAGENT_SNAPSHOTS``; each method is a connection of its own.

    Args:
        url: of the server.
        work_folder: where a snapshot is written before it is sent.
        access: as whom to connect.
    """

    def __init__(self, url: str, work_folder: Path, access: NatsAccess) -> None:
        self._url = url
        self._work_folder = work_folder
        self._access = access

    @contextmanager
    def partial(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a file on this machine."""
        self._check()
        self._work_folder.mkdir(exist_ok=True)
        with open_partial(self._work_folder) as opened:
            yield opened

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Send the file."""

        async def put(shelf: SnapshotShelf) -> None:
            with partial.open("rb") as file:
                await shelf.put(file, name, on_bytes)

        self._run(put)

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Remove the oldest of this agent."""

        async def remove(shelf: SnapshotShelf) -> None:
            for name in pick_outdated(list(await shelf.sizes()), agent, keep, spare):
                await shelf.remove(name)

        self._run(remove)

    def list(self) -> list[Stored]:
        """Return the objects that have the name of a snapshot."""

        async def sizes(shelf: SnapshotShelf) -> dict[str, int]:
            return await shelf.sizes()

        found = [Stored(name, size) for name, size in self._run(sizes).items() if parse_name(name)]
        return sorted(found, key=lambda stored: stored.name)[:MAX_LISTED]

    @contextmanager
    def fetch(self, name: str, max_bytes: int, on_bytes: OnBytes) -> Iterator[Path]:
        """Download the object into a file that is gone afterwards."""
        with tempfile.NamedTemporaryFile(prefix="kos-snapshot-") as file:

            async def get(shelf: SnapshotShelf) -> None:
                await shelf.get(name, file.file, max_bytes, on_bytes)

            self._run(get)
            file.flush()
            yield Path(file.name)

    def _run(self, work: Callable[[SnapshotShelf], Coroutine[None, None, T]]) -> T:
        """Connect and do something, in an event loop of this thread's own."""
        self._check()
        from kagent_sdk.link.nats.blobs import BlobMissingError  # noqa: PLC0415 - optional

        try:
            return asyncio.run(self._connected(work))
        except BlobMissingError as exc:
            raise SnapshotError(str(exc)) from None
        except LinkError as exc:
            raise SnapshotError(f"snapshots.destination (NATS) failed: {exc}") from exc
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            raise SnapshotError(f"snapshots.destination failed: {reason}") from exc

    async def _connected(self, work: Callable[[SnapshotShelf], Coroutine[None, None, T]]) -> T:
        from kagent_sdk.link.nats.snapshots import connect_shelf  # noqa: PLC0415 - optional

        token = self._access.token()
        async with connect_shelf(self._url, token=token, tls=self._access.tls) as shelf:
            return await work(shelf)

    def _check(self) -> None:
        """Refuse an address that is none, and a machine without NATS' client.

        Raises:
            SnapshotError: says which.
        """
        try:
            import nats  # noqa: F401, PLC0415 - optional
        except ImportError:
            raise SnapshotError(f"snapshots in nats:// need an extra: {INSTALL}") from None
        parts = urlsplit(self._url)
        if not parts.hostname or parts.path.strip("/") or "@" in parts.netloc or parts.query:
            raise SnapshotError(
                "snapshots.destination in NATS is written nats://HOST:PORT, without a user or a path; "
                "the token is that of the link (orchestrator.token)"
            )

"""Object stores as a destination, through `obstore` (the extra ``[snapshots]``).

Credentials come from the environment of the process, as the stores' own tools take them
(``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` …), or from the
machine's identity; never from config.yaml.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.naming import parse_name
from kagent_sdk.snapshots.partials import open_partial
from kagent_sdk.snapshots.port import MAX_LISTED, OnBytes, Stored

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "file", "memory")
"""The last two are for tests: a folder is named by its path."""

PIECE_BYTES = 8 * 1024 * 1024
"""Goes in one request, is repeated alone when it fails, and is above S3's least part of 5 MiB."""

INSTALL = "pip install 'kagent-sdk[snapshots]'"


class StoreDestination:
    """Keeps snapshots as objects below a prefix. Old ones are the bucket's business (its lifecycle).

    Args:
        url: ``s3://bucket/prefix`` and the like.
        work_folder: where a snapshot is written before it is sent.
        store: one that is open already.
    """

    def __init__(self, url: str, work_folder: Path, store: ObjectStore | None = None) -> None:
        self._url = url
        self._work_folder = work_folder
        self._store = store

    @contextmanager
    def partial(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a file on this machine."""
        self._open()
        self._work_folder.mkdir(exist_ok=True)
        with open_partial(self._work_folder) as opened:
            yield opened

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Send the file."""
        store = self._open()
        with self._translated(), partial.open("rb") as file:
            import obstore  # noqa: PLC0415 - optional, and `_open` has found it

            obstore.put(store, name, _pieces(file, on_bytes), chunk_size=PIECE_BYTES)

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Leave all: other agents' hosts may write there too, and the bucket has its own rules."""

    def list(self) -> list[Stored]:
        """Return the objects that have the name of a snapshot."""
        store = self._open()
        found: list[Stored] = []
        with self._translated():
            import obstore  # noqa: PLC0415 - as above

            for page in obstore.list(store):
                found += [
                    Stored(meta["path"], meta["size"]) for meta in page if parse_name(meta["path"])
                ]
                if len(found) >= MAX_LISTED:
                    break
        return sorted(found, key=lambda stored: stored.name)[:MAX_LISTED]

    @contextmanager
    def fetch(self, name: str, max_bytes: int, on_bytes: OnBytes) -> Iterator[Path]:
        """Download the object into a file that is gone afterwards."""
        store = self._open()
        with tempfile.NamedTemporaryFile(prefix="kos-snapshot-") as file:
            with self._translated(name):
                self._download(store, name, max_bytes, on_bytes, file)
            file.flush()
            yield Path(file.name)

    def _download(
        self, store: ObjectStore, name: str, max_bytes: int, on_bytes: OnBytes, file: Any
    ) -> None:
        import obstore  # noqa: PLC0415 - as above

        size = obstore.head(store, name)["size"]
        if size > max_bytes:
            raise SnapshotError(f"{name} is over snapshots.max_bytes ({max_bytes})")
        for start in range(0, size, PIECE_BYTES):
            end = min(start + PIECE_BYTES, size)
            file.write(obstore.get_range(store, name, start=start, end=end))
            on_bytes(end - start)

    def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = open_store(self._url)
        return self._store

    @contextmanager
    def _translated(self, name: str | None = None) -> Iterator[None]:
        from obstore.exceptions import BaseError, NotFoundError  # noqa: PLC0415 - as above

        try:
            yield
        except (FileNotFoundError, NotFoundError) as exc:
            what = f"snapshot {name}" if name else "such bucket"
            raise SnapshotError(f"there is no {what} in snapshots.destination") from exc
        except BaseError as exc:
            # What it says may hold an address with a signature: that is for the log alone.
            raise SnapshotError(
                f"snapshots.destination ({urlsplit(self._url).scheme}) failed: {type(exc).__name__}"
            ) from exc
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            raise SnapshotError(f"snapshots.destination failed: {reason}") from exc


def open_store(url: str) -> ObjectStore:
    """Return the store at an address, with credentials from the environment.

    Raises:
        SnapshotError: the extra is not installed, or this is no address of a store.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise SnapshotError(
            f"snapshots.destination has the scheme '{scheme[:20]}'; known are s3, gs, az and nats"
        )
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - optional
        from obstore.store import from_url  # noqa: PLC0415
    except ImportError:
        raise SnapshotError(f"snapshots in {scheme}:// need an extra: {INSTALL}") from None
    try:
        return from_url(url)
    except (BaseError, ValueError) as exc:
        raise SnapshotError(
            f"snapshots.destination ({scheme}) cannot be opened: {type(exc).__name__}"
        ) from exc


def _pieces(file: BinaryIO, on_bytes: OnBytes) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        on_bytes(len(piece))
        yield piece
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

"""Where snapshots are kept: a folder, or a bucket of an object store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots import nats_store
from kagent_sdk.snapshots.naming import parse_name, pick_outdated
from kagent_sdk.snapshots.nats_store import NatsAccess, NatsDestination
from kagent_sdk.snapshots.partials import open_partial, remove_abandoned, translated
from kagent_sdk.snapshots.port import MAX_LISTED, Destination, OnBytes, Stored
from kagent_sdk.snapshots.stores import StoreDestination
from kagent_sdk.storage.quarantine import sync_folder


def open_destination(text: str, directory: Path, access: NatsAccess | None = None) -> Destination:
    """Return the destination that ``snapshots.destination`` names; nothing is opened or made.

    Args:
        text: a folder, or the address of a bucket.
        directory: of the agent.
        access: as whom to connect to NATS.

    Raises:
        SnapshotError: it cannot be one.
    """
    if text.startswith(tuple(f"{scheme}://" for scheme in nats_store.SCHEMES)):
        return NatsDestination(text, directory / "runtime", access or NatsAccess())
    if "://" in text:
        return StoreDestination(text, directory / "runtime")
    path = PurePosixPath(text)
    if not path.is_absolute() and (".." in path.parts or text in ("", ".")):
        raise SnapshotError(
            "snapshots.destination is a folder inside the agent's, an absolute path, or an address "
            "such as s3://bucket/prefix"
        )
    folder = directory / path
    cache = directory / "runtime" / "cache"
    if folder == cache or cache in folder.parents:
        raise SnapshotError(
            "snapshots.destination must not lie in runtime/cache: it may be in them"
        )
    return FolderDestination(folder)


class FolderDestination:
    """Keeps snapshots as files.

    Args:
        folder: made with the first snapshot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def partial(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a file in the folder itself, so that keeping it is a rename."""
        with translated():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_abandoned(self._folder)
        with open_partial(self._folder) as opened:
            yield opened

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Rename the file."""
        with translated():
            partial.rename(self._folder / name)
            sync_folder(self._folder)

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Remove the oldest."""
        with translated():
            names = [entry.name for entry in os.scandir(self._folder)]
            for name in pick_outdated(names, agent, keep, spare):
                (self._folder / name).unlink(missing_ok=True)

    def list(self) -> list[Stored]:
        """Return the regular files that have the name of a snapshot."""
        with translated():
            try:
                entries = [entry for entry in os.scandir(self._folder) if parse_name(entry.name)]
            except FileNotFoundError:
                return []
            found = [
                Stored(entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            ]
        return sorted(found, key=lambda stored: stored.name)[:MAX_LISTED]

    @contextmanager
    def fetch(self, name: str, max_bytes: int, on_bytes: OnBytes) -> Iterator[Path]:
        """Give the file itself."""
        path = self._folder / name
        if "/" in name or not path.is_file():
            raise SnapshotError(f"there is no snapshot {name}")
        yield path

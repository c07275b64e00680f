"""Where snapshots are kept: a folder, or a bucket of an object store."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.naming import SUFFIX, parse_name, pick_outdated
from kagent_sdk.storage.quarantine import sync_folder

MAX_LISTED = 10_000
PARTIAL_PREFIX = ".partial-"

OnBytes = Callable[[int], None]
"""Told of bytes that went over the network; may raise, to give up."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot that is kept."""

    name: str
    size_bytes: int


class Destination(Protocol):
    """Keeps snapshots by name. All methods block: use them in a thread."""

    def partial(self) -> AbstractContextManager[tuple[BinaryIO, Path]]:
        """Give a file to write a snapshot into; what is not kept is gone afterwards."""
        ...

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Keep a file that is written and synced under a name.

        Raises:
            SnapshotError: it is not kept.
        """
        ...

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Remove what is beyond the newest ``keep`` of an agent, never ``spare``."""
        ...

    def list(self) -> list[Stored]:
        """Return what is kept, by name.

        Raises:
            SnapshotError: it cannot be known.
        """
        ...

    def fetch(self, name: str, max_bytes: int, on_bytes: OnBytes) -> AbstractContextManager[Path]:
        """Give a file with a snapshot that is kept.

        Raises:
            SnapshotError: there is none, or it cannot be read.
        """
        ...


def open_destination(text: str, directory: Path) -> Destination:
    """Return the destination that ``snapshots.destination`` names; nothing is opened or made.

    Args:
        text: a folder, or the address of a bucket.
        directory: of the agent.

    Raises:
        SnapshotError: it cannot be one.
    """
    if "://" in text:
        from kagent_sdk.snapshots.stores import StoreDestination  # noqa: PLC0415 - needs an extra

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
        with _translated():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_abandoned(self._folder)
        with open_partial(self._folder) as opened:
            yield opened

    def keep(self, partial: Path, name: str, on_bytes: OnBytes) -> None:
        """Rename the file."""
        with _translated():
            partial.rename(self._folder / name)
            sync_folder(self._folder)

    def prune(self, agent: str, keep: int, spare: str) -> None:
        """Remove the oldest."""
        with _translated():
            names = [entry.name for entry in os.scandir(self._folder)]
            for name in pick_outdated(names, agent, keep, spare):
                (self._folder / name).unlink(missing_ok=True)

    def list(self) -> list[Stored]:
        """Return the regular files that have the name of a snapshot."""
        with _translated():
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


@contextmanager
def open_partial(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Give a new file that is locked while it is written: one that is not was left by a dead host.

    Raises:
        SnapshotError: the folder does not take it.
    """
    with _translated():
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, suffix=SUFFIX, dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(PARTIAL_PREFIX) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):
                _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise SnapshotError(
            f"snapshots.destination cannot be used: {(exc.strerror or str(exc)).lower()}"
        ) from exc

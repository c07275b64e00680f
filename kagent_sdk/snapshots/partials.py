"""Files that become snapshots: until they are whole nobody takes them for one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.naming import SUFFIX

PARTIAL_PREFIX = ".partial-"


@contextmanager
def open_partial(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Give a new file that is locked while it is written: one that is not was left by a dead host.

    Raises:
        SnapshotError: the folder does not take it.
    """
    with translated():
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, suffix=SUFFIX, dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what dead hosts have left of their snapshots."""
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
def translated() -> Iterator[None]:
    """Tell an error of the system as one of the destination, without a path."""
    try:
        yield
    except OSError as exc:
        raise SnapshotError(
            f"snapshots.destination cannot be used: {(exc.strerror or str(exc)).lower()}"
        ) from exc

"""Putting a damaged file aside: out of the way, and never deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path


def put_aside(path: Path, now_s: float, *, side_files: Iterable[str] = ()) -> Path:
    """Rename ``path`` to ``path.corrupt-TIMESTAMP`` and return the new name; it blocks.

    Args:
        path: the damaged file.
        now_s: seconds since the epoch.
        side_files: endings of files that belong to it, renamed alike where they exist.

    Raises:
        OSError: the folder is not writable.
    """
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%S")
    target = free_name(path.with_name(f"{path.name}.corrupt-{stamp}"))
    path.rename(target)
    for ending in side_files:
        side = path.with_name(path.name + ending)
        if side.exists():
            side.rename(target.with_name(target.name + ending))
    sync_folder(path.parent)
    return target


def free_name(path: Path) -> Path:
    """Return ``path``, or the first of ``path-1``, ``path-2`` … that does not exist."""
    candidate, number = path, 0
    while candidate.is_symlink() or candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder survive a power cut (fsync(2), on directories)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

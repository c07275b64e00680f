"""Snapshots of replicas: made on a schedule, and restored where a replica has lost its runtime/."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from kagent_sdk.errors import SnapshotError
from kagent_sdk.orchestrator.fleet.ownership import acting_as

if TYPE_CHECKING:
    from pathlib import Path

    from kagent_sdk.orchestrator.fleet.layout import Place
    from kagent_sdk.orchestrator.fleet.workplace import Workplace

TRIES = 3
"""Snapshots that are tried, the newest first, when one is damaged."""


def newest_first(folder: Path) -> list[Path]:
    """Return the snapshots in a folder."""
    from kagent_sdk.snapshots.naming import parse_name  # noqa: PLC0415 - few replicas need it

    try:
        named = [(parse_name(path.name), path) for path in folder.iterdir()]
    except OSError:
        return []
    found = [(name.created_at, path.name, path) for name, path in named if name is not None]
    return [path for _, _, path in sorted(found, reverse=True)]


def restore_latest(place: Place, workplace: Workplace) -> tuple[str | None, str | None]:
    """Give a replica without a journal its latest snapshot, if it has one; it blocks.

    Returns:
        The name of the one that was restored, and what was wrong with those before it; None for each
        where there is nothing to tell.
    """
    owner = workplace.owner
    if owner is not None:
        # The agent's own, and made here: it cannot make it in the working folder.
        place.runtime.mkdir(exist_ok=True)
        os.chown(place.runtime, owner, owner, follow_symlinks=False)
    # The agent may change both folders, at this moment too: nothing is done there as root.
    try:
        with acting_as(owner):
            return _restore_latest(place, workplace)
    except PermissionError:
        # Of a folder above, which that user cannot pass: its agent says so when it starts. One in a
        # container can do without, for its folders are mounted; no snapshot is restored for it.
        return None, None


def _restore_latest(place: Place, workplace: Workplace) -> tuple[str | None, str | None]:
    if place.journal.exists():
        return None, None
    found = newest_first(place.snapshots)
    if not found:
        return None, None
    from kagent_sdk.snapshots.restore import Target, restore  # noqa: PLC0415 - zstandard

    config = workplace.config
    target = Target(
        place.folder,
        config.name or "agent",
        config.version,
        config.snapshots.max_bytes,
        is_forced=False,
    )
    wrong = None
    for path in found[:TRIES]:
        try:
            restore(path, target, time.time())
        except SnapshotError as exc:
            wrong = wrong or str(exc)
        else:
            return path.name, wrong
    return None, wrong

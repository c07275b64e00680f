"""Making a snapshot: a cut through the database, packed and put where snapshots go."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kagent_sdk import __version__
from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.archive import write_archive
from kagent_sdk.snapshots.cache_files import CacheFiles
from kagent_sdk.snapshots.contents import Contents, FindsSecret
from kagent_sdk.snapshots.manifest import STATE, TASKS, Manifest
from kagent_sdk.snapshots.naming import RANDOM_BYTES, make_name
from kagent_sdk.snapshots.port import Destination
from kagent_sdk.snapshots.spool import Check, Spool
from kagent_sdk.storage.schema import SCHEMA_VERSION

View = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""Gives a connection that sees one moment while others write."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Attributes:
        agent, version: whose state it is.
        cache: the folder of the cache, if its files go in too.
        max_bytes: unpacked.
        keep: how many stay in the destination, this one included.
    """

    agent: str
    version: str
    cache: Path | None
    max_bytes: int
    keep: int


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot that is kept.

    Attributes:
        skipped: entries of the cache that are no regular files.
    """

    name: str
    size_bytes: int
    manifest: Manifest
    skipped: int


def create(
    view: View,
    order: Order,
    destination: Destination,
    *,
    finds_secret: FindsSecret,
    now_s: float,
    check: Check = lambda: None,
) -> Made:
    """Make a snapshot; it blocks for as long as that takes.

    Args:
        view: the database at one moment.
        order: what is asked for.
        destination: where it goes.
        finds_secret: what holds a secret is not put into a snapshot.
        now_s: seconds since the epoch.
        check: called often; what it raises ends the work, and nothing is left of it.

    Raises:
        SnapshotError: it is not made.
    """
    created_at = datetime.fromtimestamp(int(now_s), UTC)
    name = str(make_name(order.agent, created_at, secrets.token_bytes(RANDOM_BYTES)))
    with destination.partial() as (file, path):
        try:
            with tempfile.TemporaryFile(dir=path.parent) as spooled:
                spool = Spool(spooled, order.max_bytes, check)
                manifest, skipped = _collect(view, order, spool, finds_secret, created_at)
                write_archive(spool, manifest, file, max_bytes=order.max_bytes)
            file.flush()
            os.fsync(file.fileno())
        except OSError as exc:
            raise SnapshotError(f"the snapshot cannot be written: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            raise SnapshotError(f"the journal cannot be read: {exc}") from exc
        size_bytes = os.fstat(file.fileno()).st_size
        destination.keep(path, name, lambda _count: check())
    destination.prune(order.agent, order.keep, name)
    return Made(name, size_bytes, manifest, skipped)


def _collect(
    view: View, order: Order, spool: Spool, finds_secret: FindsSecret, created_at: datetime
) -> tuple[Manifest, int]:
    with view() as connection:
        contents = Contents(connection, finds_secret)
        spool.add(STATE, contents.state_lines())
        spool.add(TASKS, contents.task_lines())
        state_version = contents.state_version
    skipped = 0
    if order.cache is not None:
        files = CacheFiles(order.cache, finds_secret)
        files.add_to(spool.add)
        skipped = files.skipped
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        agent=order.agent,
        agent_version=order.version,
        sdk_version=__version__,
        created_at=created_at,
        state_version=state_version,
        state_keys=contents.state.count,
        state_bytes=contents.state.size_bytes,
        open_tasks=contents.tasks.count,
        members=tuple(spool.members),
    )
    return manifest, skipped

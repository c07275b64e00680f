"""Hosts that run, whoever has started them: found in their folders, and ended."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from kagent_sdk.orchestrator.fleet.client import find_address
from kagent_sdk.orchestrator.fleet.process import (
    HostProcess,
    Identity,
    identify,
    is_locked,
    user_of,
    works_in,
)

if TYPE_CHECKING:
    from kagent_sdk.orchestrator.fleet.layout import Place

KILL_WAIT_S = 5.0
"""After SIGKILL; a process that is still there then hangs in the kernel."""


def find_running(place: Place, recorded: Identity | None) -> Identity | None:
    """Return the host that runs in a replica's folder, whoever has started it; it blocks.

    Args:
        place: of the replica.
        recorded: the process that was written down; a number that another process has got is none.
    """
    if recorded is not None and identify(recorded.pid) == recorded:
        return recorded
    address = find_address(place)
    if address is None or not _is_its_own(address.pid, place):
        return None
    # A host of the same user shows nobody its folder, for it closes its memory: then the lock tells.
    is_there = works_in(address.pid, place.folder) or is_locked(place.lock)
    return identify(address.pid) if is_there else None


def _is_its_own(pid: int, place: Place) -> bool:
    """Tell whether a process has the user who wrote its number down.

    An agent may write any number there, and hold the lock itself: what it names would be ended by root.
    """
    try:
        return user_of(pid) == place.host_file.lstat().st_uid
    except OSError:
        return False


async def end(process: HostProcess, within_s: float) -> None:
    """End a host: SIGTERM, and SIGKILL for its whole group when the time is over."""
    if not process.exited.done():
        process.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.shield(process.exited)
    if not process.exited.done():
        process.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_WAIT_S):
                await asyncio.shield(process.exited)

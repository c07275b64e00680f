"""``orchestrator.json``: how a client on the same machine finds a running orchestrator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kagent_sdk.host.announcement import pid_namespace
from kagent_sdk.orchestrator.settings import ANNOUNCEMENT_NAME
from kagent_sdk.protocol.headers import format_time


@contextmanager
def announce(data: Path, *, url: str, orchestrator: str, started_at: float) -> Iterator[None]:
    """Keep ``orchestrator.json`` in place for the time of the block.

    It is written whole (a temporary file, then a rename) and readable by its owner alone.

    Args:
        data: the orchestrator's folder.
        url: where it listens.
        orchestrator: its id, another one each time it starts.
        started_at: seconds since the epoch.
    """
    path = data / ANNOUNCEMENT_NAME
    document = {
        "pid": os.getpid(),
        "pid_namespace": pid_namespace(),
        "url": url,
        "orchestrator": orchestrator,
        "started_at": format_time(started_at),
    }
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
    temporary.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)

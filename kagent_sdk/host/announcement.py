"""How a client on the same machine finds what runs: a file that is there as long as it does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kagent_sdk.protocol.headers import format_time


@contextmanager
def announce(path: Path, *, url: str, started_at: float, **facts: str) -> Iterator[None]:
    """Keep a file in place for the time of the block.

    It is written whole (a temporary file, then a rename) and readable by its owner alone.

    Args:
        path: of the file: ``runtime/host.json`` or ``orchestrator.json``.
        url: where this process listens.
        started_at: seconds since the epoch.
        facts: what else there is to say, such as a name.
    """
    document = {
        "pid": os.getpid(),
        "pid_namespace": pid_namespace(),
        "url": url,
        **facts,
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


def pid_namespace() -> int | None:
    """Return what tells this process's namespace of process ids from others (pid_namespaces(7)).

    Numbers of processes, and addresses of this machine alone, mean the same only within it: a container
    has one of its own. None where the kernel does not tell.
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None

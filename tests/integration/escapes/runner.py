"""Run attempts, each in a process of its own, and tell how they went.

As a program: ``python -m tests.integration.escapes.runner < {"ground": {…}, "names": […]}``.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from . import (
    agent_files,
    exits,
    files,
    inheritance,
    ipc,
    kernel,
    network,
    privileges,
    processes,
    programs,
)
from .ground import ATTEMPTS, BlockedError, Ground

PARTS = (
    agent_files,
    exits,
    files,
    inheritance,
    ipc,
    kernel,
    network,
    privileges,
    processes,
    programs,
)
PATIENCE_S = 15.0
"""For one attempt; most take a millisecond."""

THROUGH, BLOCKED, BROKEN = "through", "blocked", "broken"

REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EAFNOSUPPORT,
        errno.EBADF,
        errno.ECONNREFUSED,
        errno.EMFILE,
        errno.ENETUNREACH,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOKEY,
        errno.ENOPROTOOPT,
        errno.ENOSYS,
        errno.ENXIO,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTONOSUPPORT,
        errno.EROFS,
        errno.ESOCKTNOSUPPORT,
        errno.ESRCH,
        errno.EXDEV,
    }
)
"""How a kernel says no; any other error is a fault of the attempt, and must not count as held."""


def run_attempts(names: Iterable[str], ground: Ground) -> dict[str, tuple[str, str]]:
    """Return for each attempt how it went, and the evidence or the reason."""
    return {name: _run_apart(name, ground) for name in names}


def _run_apart(name: str, ground: Ground) -> tuple[str, str]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, json.dumps(_run(name, ground)).encode()[:4000])
        finally:
            os._exit(0)
    os.close(theirs)
    is_told = bool(select.select([ours], [], [], PATIENCE_S)[0])
    told = os.read(ours, 4096) if is_told else b""
    os.close(ours)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if told:
        outcome, reason = json.loads(told)
        return outcome, reason
    if not is_told:
        return BROKEN, f"no answer within {PATIENCE_S:.0f} s"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    outcome = BLOCKED if number in {signal.SIGSYS, signal.SIGSEGV} else BROKEN
    return outcome, f"ended by signal {number}"


def _run(name: str, ground: Ground) -> tuple[str, str]:
    try:
        return THROUGH, ATTEMPTS[name].function(ground)
    except BlockedError as exc:
        return BLOCKED, str(exc)
    except MemoryError:
        return BLOCKED, "no memory"
    except OSError as exc:
        return (BLOCKED if exc.errno in REFUSALS else BROKEN), f"{type(exc).__name__}: {exc}"
    except BaseException as exc:  # noqa: BLE001 - it must be told, whatever it is
        return BROKEN, f"{type(exc).__name__}: {exc}"


def run_request(request: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Run what a request asks for: ``{"ground": {…}, "names": […]}``."""
    return run_attempts(request["names"], Ground(**request["ground"]))


def make_request(names: Iterable[str], ground: Ground) -> dict[str, Any]:
    """Return the request for `run_request`."""
    return {"ground": asdict(ground), "names": list(names)}


def main() -> None:
    """Read a request from stdin, write the results to stdout."""
    sys.stdout.write(json.dumps(run_request(json.load(sys.stdin))))


if __name__ == "__main__":
    main()

"""Becoming a plain user for good, when a process was started by root."""

from __future__ import annotations

import os

from kagent_sdk.sandbox.kernel import PR_SET_DUMPABLE, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def become(user: int) -> None:
    """Take a user's and group's number and no other group; there is no way back.

    Raises:
        OSError: the kernel refused.
    """
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # A change of user takes the process's own /proc/self/fd from it, and its memory's figures from
    # the host (proc(5), PR_SET_DUMPABLE); exec would give them back just the same.
    prctl(PR_SET_DUMPABLE, 1)


def find_unreadable(paths: Iterable[str]) -> str | None:
    """Return the first of these that the present user cannot read or enter; None if there is none."""
    return next((path for path in paths if not _can_read(path)), None)


def _can_read(path: str) -> bool:
    is_folder = os.path.isdir(path)  # noqa: PTH112 - pathlib costs 3 ms
    return os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK)

"""Which paths a policy gives. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kagent_sdk.sandbox.policy import Policy


def is_given(path: str, policy: Policy) -> bool:
    """Say whether a policy gives something of an absolute path, or of what may be made in it."""
    given = _nearest(path, (*policy.read, *policy.write, *policy.execute))
    return given > _nearest(path, policy.hidden)


def _nearest(path: str, folders: Iterable[str]) -> int:
    """Return the length of the longest of the folders that a path lies in; -1 for none."""
    return max((len(folder) for folder in folders if _is_in(path, folder)), default=-1)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")

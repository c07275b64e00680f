"""Which paths a policy gives. Pure."""

from __future__ import annotations

from kagent_sdk.sandbox.policy import Policy


def is_given(path: str, policy: Policy) -> bool:
    """Say whether a policy gives something of an absolute path, or of what may be made in it."""
    if any(_is_in(path, hidden) for hidden in policy.hidden):
        return False
    return any(_is_in(path, given) for given in (*policy.read, *policy.write, *policy.execute))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")

"""Keeping the host's memory from the other processes of its user."""

from __future__ import annotations

import sys


def hide_memory() -> None:
    """Close this process's memory, environment and tracing to all but root (Linux; else nothing).

    Call it after the last change of user, which sets the flag anew. Of its own files in /proc the
    host then lacks ``environ``, ``io``, ``auxv`` and ``mem``, none of which it reads; its figures of
    memory, threads and descriptors stay.
    """
    if sys.platform == "linux":
        from kagent_sdk.sandbox.kernel import PR_SET_DUMPABLE, prctl  # noqa: PLC0415 - Linux only

        prctl(PR_SET_DUMPABLE, 0)


def is_open() -> bool:
    """Tell whether processes of this user may read and trace this one."""
    from kagent_sdk.sandbox.kernel import PR_GET_DUMPABLE, prctl  # noqa: PLC0415 - as above

    return bool(prctl(PR_GET_DUMPABLE))

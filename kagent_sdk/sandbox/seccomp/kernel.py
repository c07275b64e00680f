"""Hand a filter to the kernel, for the calling thread and all that it starts."""

from __future__ import annotations

import os
import sys

from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES


def running_architecture() -> str | None:
    """Return the architecture of this process, such as ``x86_64``; None when no table has it."""
    machine = os.uname().machine
    # A 32-bit process of a 64-bit kernel makes syscalls of another architecture.
    known = sys.platform == "linux" and sys.maxsize > 2**32 and machine in ARCHITECTURES
    return machine if known else None


def install(program: bytes) -> None:
    """Put the calling thread, and whatever it starts from now on, under a filter; for good.

    Other threads of the process stay as they are: call it before there are any. It needs
    PR_SET_NO_NEW_PRIVS, or CAP_SYS_ADMIN (seccomp(2)).

    Raises:
        OSError: the kernel did not take it. EACCES: no_new_privs is not set; EINVAL: it is no
            valid program, or the kernel knows no filters; ENOSYS: it does not know seccomp(2).
    """
    machine = running_architecture()
    if machine is None:
        raise OSError(f"no seccomp filter for {os.uname().machine}")
    from kagent_sdk.sandbox.kernel import set_filter  # noqa: PLC0415 - Linux only

    try:
        set_filter(program)
    except OSError as exc:
        raise OSError(exc.errno, f"the kernel did not take the filter: {exc.strerror}") from exc

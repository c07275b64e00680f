"""Whose system calls this process makes."""

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

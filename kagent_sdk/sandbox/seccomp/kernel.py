"""Hand a filter to the kernel, for the calling thread and all that it starts."""

from __future__ import annotations

import ctypes
import os
import sys

from kagent_sdk.sandbox.seccomp.bpf import INSTRUCTION_BYTES
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES

_SET_MODE_FILTER = 1  # linux/seccomp.h


class _Program(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


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
    number = ARCHITECTURES[machine].numbers()["seccomp"]
    libc = ctypes.CDLL(None, use_errno=True)
    described = _Program(len(program) // INSTRUCTION_BYTES, program)
    arguments = (ctypes.c_long(number), ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(0))
    if libc.syscall(*arguments, ctypes.byref(described)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp(2) did not take the filter: {os.strerror(error)}")

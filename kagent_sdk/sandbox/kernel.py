"""The calls of the kernel that Python has no function for, by ctypes. Linux only."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call by its number; bytes are passed by their address.

    Raises:
        OSError: the kernel refused.
    """
    # Without a type ctypes passes an int as 32 bits.
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *words))


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """Operate on this process.

    Raises:
        OSError: the kernel refused.
    """
    words = (ctypes.c_ulong(word) for word in (value, third, 0, 0))
    return _checked(_libc.prctl(ctypes.c_int(option), *words))


def set_filter(program: bytes) -> None:
    """Put this thread and what it starts under a seccomp filter; no_new_privs is set before.

    By prctl(2), which has no number to look up and is the same as seccomp(2) without flags.

    Raises:
        OSError: the kernel refused.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count of 8-byte instructions, padding, an address.
    fields = len(program) // 8, ctypes.addressof(instructions)
    described = b"".join(word.to_bytes(8, "little") for word in fields)
    _checked(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), described))


def reset_signal(number: int) -> None:
    """Give a signal back its default action; the module signal costs 1 ms."""
    _libc.signal(ctypes.c_int(number), None)


def capset(header: bytes, data: bytes) -> None:
    """Set this thread's capabilities.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.capset(header, data))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

"""The calls of the kernel that Python has no function for. Linux only.

By `_ctypes`, the part of ctypes in C: the part in Python takes 2 to 5 ms to import, which is most of
what a start would pay for being confined.
"""

from __future__ import annotations

import _ctypes
import os

# What ctypes calls c_long, c_int and c_char_p (ctypes/__init__.py).


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg, misc, unused-ignore] # noqa: SLF001
    _type_ = "l"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg, misc, unused-ignore] # noqa: SLF001
    _type_ = "i"


class _Text(_ctypes._SimpleCData):  # type: ignore[type-arg, misc, unused-ignore] # noqa: SLF001
    _type_ = "z"


class _ReturnsLong(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _ReturnsInt(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


_libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: this process
_syscall = _ReturnsLong(_ctypes.dlsym(_libc, "syscall"))
_prctl = _ReturnsInt(_ctypes.dlsym(_libc, "prctl"))

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call by its number; bytes are passed by their address.

    Raises:
        OSError: the kernel refused.
    """
    # Without a type an int is passed as 32 bits.
    words = [_Long(word) if isinstance(word, int) else word for word in arguments]
    return _checked(_syscall(_Long(number), *words))


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """Operate on this process.

    Raises:
        OSError: the kernel refused.
    """
    return _checked(_prctl(option, _Long(value), _Long(third), _Long(0), _Long(0)))


def set_filter(program: bytes) -> None:
    """Put this thread and what it starts under a seccomp filter; no_new_privs is set before.

    By prctl(2), which has no number to look up and is the same as seccomp(2) without flags.

    Raises:
        OSError: the kernel refused.
    """
    # struct sock_fprog: a count of 8-byte instructions, padding, an address.
    described = (len(program) // 8).to_bytes(8, "little") + bytes(memoryview(_Text(program)))
    _checked(_prctl(PR_SET_SECCOMP, _Long(_SECCOMP_MODE_FILTER), described))


def reset_signal(number: int) -> None:
    """Give a signal back its default action; the module signal costs 1 ms."""
    _ReturnsLong(_ctypes.dlsym(_libc, "signal"))(number, None)


def capset(header: bytes, data: bytes) -> None:
    """Set this thread's capabilities.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_ReturnsInt(_ctypes.dlsym(_libc, "capset"))(header, data))


def _checked(result: int) -> int:
    if result < 0:
        number = _ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

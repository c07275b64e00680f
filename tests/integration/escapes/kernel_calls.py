"""Syscalls by number, for what the standard library has no function for."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Mapping

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

IS_X86 = platform.machine() == "x86_64"

# x86_64, aarch64: asm/unistd_64.h and asm-generic/unistd.h; from 424 on they are the same.
_NUMBERS = {
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "capset": (126, 91),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_setup": (425, 425),
    "iopl": (172, -1),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, -1),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setattr": (314, 274),
    "setns": (308, 268),
    "set_mempolicy": (238, 237),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "userfaultfd": (323, 282),
}

AT_FDCWD = -100


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a syscall of this machine and return its result.

    Raises:
        OSError: it failed.
    """
    number = _NUMBERS[name][0 if IS_X86 else 1]
    return call_number(number, name, *arguments)


def call_number(number: int, name: str, *arguments: object) -> int:
    """Make the syscall of a number and return its result.

    Raises:
        OSError: it failed.
    """
    plain = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *plain), name)


def libc(name: str, *arguments: object) -> int:
    """Call a function of the C library that says -1 for an error.

    Raises:
        OSError: it failed.
    """
    return _checked(getattr(_libc, name)(*arguments), name)


def structure(size: int, fields: Mapping[int, bytes]) -> ctypes.Array[ctypes.c_char]:
    """Return a structure of the kernel's: the bytes of its fields by their offsets, the rest zero."""
    memory = bytearray(size)
    for offset, content in fields.items():
        memory[offset : offset + len(content)] = content
    return ctypes.create_string_buffer(bytes(memory), size)


def word(number: int, length: int = 4) -> bytes:
    """Return a number as a field of a structure, as both architectures have it."""
    return number.to_bytes(length, "little", signed=number < 0)


def attach_at(segment: int) -> int:
    """Attach a System V shared memory segment and return its address (shmat(2)).

    Raises:
        OSError: it failed.
    """
    _libc.shmat.restype = ctypes.c_void_p
    where = _libc.shmat(segment, None, 0)
    if where is None or where == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "shmat")
    assert isinstance(where, int)
    return where


def map_executable(code: bytes) -> Callable[[], int]:
    """Return machine code as a function without arguments that returns an int."""
    import mmap  # noqa: PLC0415 - one attempt needs it

    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(ctypes.c_int)(address)

    def run() -> int:
        """Hold the page for as long as the function is there."""
        assert len(page) == 4096
        return int(function())

    return run


def _checked(result: int, name: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result

"""Attempts on interfaces of the kernel that an agent has no use for."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import time
from pathlib import Path

from .ground import BlockedError, Ground, attempt
from .kernel_calls import AT_FDCWD, IS_X86, call, call_number, map_executable, structure, word

_SESSION, _USER = -3, -4  # linux/keyctl.h
_SEARCH, _READ, _JOIN = 10, 11, 1
_USER_MODE_ONLY = 1  # linux/userfaultfd.h
_X32 = 0x40000000  # asm/unistd.h __X32_SYSCALL_BIT


@attempt(lacking="kernel.io_uring_disabled may be set")
def set_up_ring(ground: Ground) -> str:
    """Make a ring, by which syscalls are made that no filter sees (io_uring(7))."""
    parameters = ctypes.create_string_buffer(120)
    return f"descriptor {call('io_uring_setup', 4, parameters)}"


@attempt(lacking="kernel.io_uring_disabled may be set")
def open_by_ring(ground: Ground) -> str:
    """Open a file by a ring: the whole way."""
    ring, fields, entries = _make_ring()
    path = ctypes.create_string_buffer(ground.outside("secret").encode())
    # struct io_uring_sqe: IORING_OP_OPENAT, AT_FDCWD, path, mode 0
    entry = {0: bytes([18]), 4: word(AT_FDCWD), 16: word(ctypes.addressof(path), 8)}
    entries[0:64] = structure(64, entry).raw
    tail, array = fields.submission_tail, fields.submission_array
    fields.memory[array : array + 4] = bytes(4)
    fields.memory[tail : tail + 4] = word(1)
    call("io_uring_enter", ring, 1, 1, 1, None, 0)
    at = fields.completions + 8
    result = int.from_bytes(fields.memory[at : at + 4], "little", signed=True)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return ground.expect(os.read(result, 100))


class _Fields:
    """Where things are in the memory of a ring."""

    def __init__(self, memory: mmap.mmap, parameters: bytes) -> None:
        def number(at: int) -> int:
            return int.from_bytes(parameters[at : at + 4], "little")

        self.memory = memory
        self.submission_tail = number(40 + 4)
        self.submission_array = number(40 + 24)
        self.completions = number(80 + 20)


def _make_ring() -> tuple[int, _Fields, mmap.mmap]:
    parameters = ctypes.create_string_buffer(120)
    ring = call("io_uring_setup", 4, parameters)
    memory = mmap.mmap(ring, 4096, flags=mmap.MAP_SHARED, offset=0)
    entries = mmap.mmap(ring, 4096, flags=mmap.MAP_SHARED, offset=0x10000000)
    return ring, _Fields(memory, parameters.raw), entries


@attempt(lacking="a kernel without userfaultfd")
def handle_page_faults(ground: Ground) -> str:
    """Hold the kernel up in the middle of a copy (userfaultfd(2)), as most exploits do."""
    return f"descriptor {call('userfaultfd', os.O_CLOEXEC | _USER_MODE_ONLY)}"


@attempt(lacking="a kernel without keys")
def read_users_key(ground: Ground) -> str:
    """Read a key that another process of the user left with the kernel (keyrings(7))."""
    key = call("keyctl", _SEARCH, _USER, b"user", ground.abstract.encode(), 0)
    content = ctypes.create_string_buffer(100)
    call("keyctl", _READ, key, content, 100)
    return ground.expect(content.raw)


@attempt(lacking="a kernel without keys")
def add_key(ground: Ground) -> str:
    """Leave a key for other processes of the user."""
    return f"key {call('add_key', b'user', f'kos-{os.getpid()}'.encode(), b'x', 1, _USER)}"


@attempt(lacking="a kernel without keys")
def request_key(ground: Ground) -> str:
    """Have the kernel look for a key."""
    return f"key {call('request_key', b'user', ground.abstract.encode(), None, _USER)}"


@attempt(lacking="a kernel without keys")
def join_session(ground: Ground) -> str:
    """Leave the session's keys for new ones."""
    return f"keyring {call('keyctl', _JOIN, b'kos')}"


@attempt(needs_root=True, lacking="a kernel without bpf")
def make_map(ground: Ground) -> str:
    """Reach the kernel's own interpreter (bpf(2))."""
    attributes = structure(128, {0: word(2), 4: word(4), 8: word(4), 12: word(1)})
    return f"descriptor {call('bpf', 0, attributes, 128)}"


@attempt(lacking="a kernel without perf, or kernel.perf_event_paranoid over 2")
def count_own_events(ground: Ground) -> str:
    """Reach the kernel's counters for oneself (perf_event_open(2))."""
    attributes = structure(128, {0: word(1), 4: word(128), 40: word(1 << 5 | 1 << 6)})
    return f"descriptor {call('perf_event_open', attributes, 0, -1, -1, 0)}"


@attempt(lacking="a kernel without fanotify for users")
def watch_file_systems(ground: Ground) -> str:
    """Be told of what happens to files (fanotify_init(2))."""
    return f"descriptor {call('fanotify_init', 0x200, 0)}"  # FAN_REPORT_FID


@attempt(needs_root=True, lacking="a kernel without modules")
def load_module(ground: Ground) -> str:
    """Load code into the kernel: what is no module must fail for being none."""
    try:
        call("init_module", ctypes.create_string_buffer(64), 64, b"")
    except OSError as exc:
        if exc.errno == 8:  # ENOEXEC: it was looked at
            return "it was looked at"
        raise
    return "loaded"


@attempt(needs_root=True, lacking="a kernel without kexec")
def load_kernel(ground: Ground) -> str:
    """Prepare another kernel: none, which takes a prepared one away (kexec_load(2))."""
    return f"{call('kexec_load', 0, 0, None, 0)}"


@attempt(needs_root=True)
def read_kernels_log(ground: Ground) -> str:
    """Read the kernel's messages, which hold addresses (syslog(2))."""
    return f"{call('syslog', 10, None, 0)} bytes"


@attempt(needs_root=True)
def open_kernels_log(ground: Ground) -> str:
    """The same by its device."""
    return f"descriptor {os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)}"


@attempt(needs_root=True)
def set_clock(ground: Ground) -> str:
    """Set the clock, to what it shows."""
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
    return "set"


@attempt(needs_root=True, lacking="a kernel without accounting")
def switch_accounting_off(ground: Ground) -> str:
    """Have the kernel record no more processes (acct(2))."""
    return f"{call('acct', None)}"


@attempt(needs_root=True, lacking="not on this processor, or a kernel without it")
def reach_ports(ground: Ground) -> str:
    """Reach the machine's devices past the kernel (iopl(2))."""
    if not IS_X86:
        raise BlockedError("x86 alone has it")
    return f"{call('iopl', 3)}"


@attempt(lacking="not on this processor, or a kernel without it")
def change_segments(ground: Ground) -> str:
    """Read the table of segments (modify_ldt(2)), where holes were found."""
    if not IS_X86:
        raise BlockedError("x86 alone has it")
    return f"{call('modify_ldt', 0, ctypes.create_string_buffer(64), 64)} bytes"


@attempt(lacking="not on this processor, or a kernel without 32-bit programs")
def call_as_32_bit_program(ground: Ground) -> str:
    """Make a syscall by the numbers of another architecture, which a filter may not know."""
    if not IS_X86:
        raise BlockedError("x86 alone has it")
    # mov eax, 20 (getpid of i386); int 0x80; ret
    found = map_executable(bytes.fromhex("b814000000cd80c3"))()
    if found != os.getpid():
        raise BlockedError(f"it said {found}")
    return f"pid {found}"


@attempt(lacking="a kernel without the x32 interface")
def call_as_x32_program(ground: Ground) -> str:
    """The same by the third set of numbers that x86_64 has."""
    if not IS_X86:
        raise BlockedError("x86 alone has it")
    return f"pid {call_number(_X32 | 39, 'x32 getpid')}"


@attempt(lacking="a kernel without secret memory")
def make_secret_memory(ground: Ground) -> str:
    """Take memory that the kernel itself cannot see (memfd_secret(2))."""
    return f"descriptor {call('memfd_secret', 0)}"


@attempt(needs_root=True)
def change_quota(ground: Ground) -> str:
    """Have all file systems write their quotas (quotactl(2), Q_SYNC)."""
    return f"{call('quotactl', 0x800001 << 8, None, 0, None)}"


@attempt(needs_root=True, lacking="a container may have none")
def reach_memory_device(ground: Ground) -> str:
    """Open the machine's memory, processors, or disks by their devices."""
    for name in ("mem", "port", "kvm", "fuse", "userfaultfd", "vsock", "loop-control", "vhost-net"):
        if Path(f"/dev/{name}").exists():
            return f"descriptor {os.open(f'/dev/{name}', os.O_RDWR)} of {name}"
    raise BlockedError("no device")


@attempt()
def read_kernels_addresses(ground: Ground) -> str:
    """Read which processes' pages are where (/proc/self/pagemap is ours; kpagecount is not)."""
    return f"{len(Path('/proc/kallsyms').read_bytes())} bytes"


@attempt()
def read_mounts_of_init(ground: Ground) -> str:
    """Learn how the machine is laid out."""
    return f"{len(Path('/proc/1/mountinfo').read_bytes())} bytes"


@attempt()
def trace_own_child(ground: Ground) -> str:
    """Trace a child: inside a filter that lets it, tracing changes syscalls after the filter."""
    with subprocess.Popen(["sleep", "30"]) as child:
        try:
            call("ptrace", 0x4206, child.pid, 0, 0)
        finally:
            child.kill()
    return "traced"

"""Attempts on other processes, on namespaces, and on what the kernel offers to few."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from collections.abc import Iterator

from tests.integration.syscalls.raw import call, end_child, make_sleeper

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_PARENT = 0x20000, 0x4000000, 0x10000000, 0x8000
MS_REC_PRIVATE = 0x4000 | 0x40000

SELF = b"/proc/self/exe"
AT_FDCWD = -100


def unshare_user() -> Iterator[None]:
    """Become root of a namespace of one's own."""
    yield
    call("unshare", CLONE_NEWUSER)


def unshare_mounts() -> Iterator[None]:
    """Get mounts of one's own."""
    yield
    call("unshare", CLONE_NEWNS)


def enter_namespace() -> Iterator[None]:
    """Enter the namespace that a descriptor stands for."""
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    yield
    call("setns", descriptor, 0)


def clone_user() -> Iterator[None]:
    """Have a child that is root of a namespace; with garbage in the register's upper half."""
    yield
    end_child(call("clone", CLONE_NEWUSER | signal.SIGCHLD | 0xABC << 40, 0, 0, 0, 0))


def clone_sibling() -> Iterator[None]:
    """Give one's parent a child that it knows nothing of."""
    yield
    if call("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def clone_by_structure() -> Iterator[None]:
    """Have a child by the call whose flags are in memory."""
    yield
    structure = struct.pack("=8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    end_child(call("clone3", structure, len(structure)))


def mount() -> Iterator[None]:
    """Mount a file system."""
    _own_mounts()
    yield
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)


def unmount() -> Iterator[None]:
    """Take off a file system, and see what was below."""
    _own_mounts()
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    yield
    call("umount2", b"/tmp", 0)


def open_file_system() -> Iterator[None]:
    """Make a file system in the newer way."""
    yield
    call("fsopen", b"tmpfs", 0)


def open_mount() -> Iterator[None]:
    """Take a mount in hand."""
    yield
    call("open_tree", AT_FDCWD, b"/", 0)


def change_root() -> Iterator[None]:
    """Get another root."""
    yield
    call("chroot", b"/")


def name_the_machine() -> Iterator[None]:
    """Give the machine another name."""
    call("unshare", CLONE_NEWUTS)
    yield
    call("sethostname", b"other", 5)


def be_traced() -> Iterator[None]:
    """Have one's parent trace one."""
    yield
    call("ptrace", 0, 0, 0, 0)


def trace() -> Iterator[None]:
    """Trace another process (PTRACE_SEIZE)."""
    pid = make_sleeper()
    yield
    call("ptrace", 0x4206, pid, 0, 0)


def read_memory() -> Iterator[None]:
    """Read the memory of another process."""
    pid, own, other = make_sleeper(), *_vectors()
    yield
    call("process_vm_readv", pid, own, 1, other, 1, 0)


def write_memory() -> Iterator[None]:
    """Write the memory of another process."""
    pid, own, other = make_sleeper(), *_vectors()
    yield
    call("process_vm_writev", pid, own, 1, other, 1, 0)


def take_descriptor() -> Iterator[None]:
    """Take a descriptor out of another process."""
    descriptor = call("pidfd_open", make_sleeper(), 0)
    yield
    call("pidfd_getfd", descriptor, 2, 0)


def compare_kernel_objects() -> Iterator[None]:
    """Ask what two processes have in common (KCMP_VM)."""
    pid = make_sleeper()
    yield
    call("kcmp", os.getpid(), pid, 1, 0, 0)


def advise_on_memory() -> Iterator[None]:
    """Have another process's memory made cold (MADV_COLD)."""
    descriptor, (_, other) = call("pidfd_open", make_sleeper(), 0), _vectors()
    yield
    call("process_madvise", descriptor, other, 1, 20, 0)


def move_memory() -> Iterator[None]:
    """Move another process's memory to where it already is."""
    pid = make_sleeper()
    nodes = struct.pack("=Q", 1)
    yield
    call("migrate_pages", pid, 64, nodes, nodes)


def move_pages() -> Iterator[None]:
    """Ask where another process's pages are."""
    pid = make_sleeper()
    yield
    call("move_pages", pid, 0, None, None, None, 0)


def leave_core() -> Iterator[None]:
    """Run on other cores."""
    yield
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def bind_other_to_core() -> Iterator[None]:
    """Crowd another process."""
    pid = make_sleeper()
    yield
    os.sched_setaffinity(pid, os.sched_getaffinity(0))


def reschedule_other() -> Iterator[None]:
    """Have another process run after all others (SCHED_BATCH)."""
    pid = make_sleeper()
    yield
    call("sched_setscheduler", pid, 3, struct.pack("=i", 0))


def slow_down_other() -> Iterator[None]:
    """Be nice on another process's behalf."""
    pid = make_sleeper()
    yield
    os.setpriority(os.PRIO_PROCESS, pid, 5)


def slow_down_disk_of_other() -> Iterator[None]:
    """Have another process wait for the disk."""
    pid = make_sleeper()
    yield
    call("ioprio_set", 1, pid, 2 << 13 | 7)


def limit_other() -> Iterator[None]:
    """Take another process's descriptors away from it."""
    pid = make_sleeper()
    yield
    call("prlimit64", pid, 7, struct.pack("=QQ", 8, 8), None)


def load_program_into_kernel() -> Iterator[None]:
    """Make a map for programs in the kernel (BPF_MAP_CREATE, an array)."""
    yield
    attributes = struct.pack("=5I", 2, 4, 4, 1, 0)
    call("bpf", 0, attributes, len(attributes))


def watch_events() -> Iterator[None]:
    """Count events of the processor (PERF_COUNT_SW_CPU_CLOCK)."""
    yield
    attributes = struct.pack("=IIQ", 1, 112, 0) + bytes(96)
    call("perf_event_open", attributes, 0, -1, -1, 0)


def handle_faults() -> Iterator[None]:
    """Handle page faults of the kernel."""
    yield
    call("userfaultfd", 0)


def make_ring() -> Iterator[None]:
    """Make calls that no filter sees."""
    yield
    call("io_uring_setup", 4, ctypes.create_string_buffer(120))


def keep_key() -> Iterator[None]:
    """Keep data in the kernel (KEY_SPEC_PROCESS_KEYRING)."""
    yield
    call("add_key", b"user", b"of kagent_sdk's tests", b"1", 1, -2)


def ask_for_keyring() -> Iterator[None]:
    """Reach the keys of one's user (KEYCTL_GET_KEYRING_ID)."""
    yield
    call("keyctl", 0, -4, 1)


def place_memory() -> Iterator[None]:
    """Say where memory comes from."""
    yield
    call("set_mempolicy", 0, None, 0)


def fix_addresses() -> Iterator[None]:
    """Have programs loaded where they always were (ADDR_NO_RANDOMIZE)."""
    yield
    call("personality", 0x40000)


def find_file_by_number() -> Iterator[None]:
    """Get the number by which files are opened past all folders."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 8 + 128)
    mount_id = ctypes.create_string_buffer(4)
    yield
    call("name_to_handle_at", AT_FDCWD, SELF, handle, mount_id, 0x400)


def watch_all_files() -> Iterator[None]:
    """Watch every file of a mount."""
    yield
    call("fanotify_init", 0, 0)


def read_kernel_log() -> Iterator[None]:
    """Read the log of the kernel (SYSLOG_ACTION_SIZE_BUFFER)."""
    yield
    call("syslog", 10, None, 0)


def set_clock() -> Iterator[None]:
    """Set the clock; to nothing."""
    yield
    call("settimeofday", None, None)


def adjust_clock() -> Iterator[None]:
    """Adjust the clock; by nothing."""
    yield
    call("adjtimex", ctypes.create_string_buffer(256))


def stop_accounting() -> Iterator[None]:
    """Switch off the accounting of processes."""
    yield
    call("acct", None)


def _own_mounts() -> None:
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC_PRIVATE, None)


_memory = mmap.mmap(-1, mmap.PAGESIZE)  # a forked child has it at the same place


def _vectors() -> tuple[bytes, bytes]:
    """Return ``struct iovec`` of a page of ours, and the same of a forked child's."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(_memory))
    vector = struct.pack("=QQ", address, mmap.PAGESIZE)
    return vector, vector

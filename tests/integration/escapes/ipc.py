"""Attempts on what processes of one machine share by names: memory, semaphores, queues."""

from __future__ import annotations

import ctypes
import mmap
import os

from .ground import Ground, attempt
from .kernel_calls import attach_at, libc


@attempt()
def attach_shared_memory(ground: Ground) -> str:
    """Read System V shared memory of another process (shmat(2))."""
    return ground.expect(ctypes.string_at(attach_at(libc("shmget", ground.segment, 0, 0)), 64))


@attempt()
def make_semaphores(ground: Ground) -> str:
    """Make semaphores that processes outside find by a number (semget(2))."""
    found = libc("semget", ground.segment, 1, 0o1600)
    libc("semctl", found, 0, 0)
    return f"set {found}"


@attempt()
def make_message_queue(ground: Ground) -> str:
    """Make a queue that processes outside find by a number (msgget(2))."""
    found = libc("msgget", ground.segment, 0o1600)
    libc("msgctl", found, 0, None)
    return f"queue {found}"


@attempt(lacking="a kernel without POSIX message queues")
def open_posix_queue(ground: Ground) -> str:
    """Send to a message queue of another process (mq_open(3))."""
    queue = libc("mq_open", f"/{ground.queue}".encode(), os.O_WRONLY)
    libc("mq_send", queue, b"mark", ctypes.c_size_t(4), 0)
    return f"sent to {queue}"


@attempt()
def map_shared_memory(ground: Ground) -> str:
    """Map more memory than the policy says, of the kind that RLIMIT_DATA does not count."""
    memory = mmap.mmap(-1, 2 << 30, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    memory[:4096] = bytes(4096)
    return f"mapped {len(memory)} bytes"

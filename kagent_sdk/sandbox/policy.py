"""What a confined process may do, as frozen data: everything else is made from this."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MEBIBYTE = 1024 * 1024

STACKS_BYTES = 64 * 8 * MEBIBYTE
"""The stacks of 64 threads, as many as a worker has for sync functions unless told otherwise. The kernel
counts all of a stack as data from the start, touched or not: without this room 60 threads are 512 MiB."""

AGENT_ID = 1000
"""User and group that a process becomes when it was started by root."""

HOST_PROCESSES = 32
"""Threads of the host, beside the processes of the workers, where one limit is for both: it has
about ten."""


class Mode(enum.StrEnum):
    """What happens with a control that cannot be applied."""

    ENFORCE = "enforce"
    """It is an error: the process does not start."""
    REPORT = "report"
    """It is a finding of the audit; what can be applied is."""
    OFF = "off"
    """Nothing is applied."""


class Isolation(enum.StrEnum):
    """How far a confined process is taken apart from the rest of the machine."""

    PROCESS = "process"
    """By Landlock, seccomp, capabilities and limits, in the namespaces of the host."""
    BWRAP = "bwrap"
    """The same inside namespaces made by bubblewrap: no network interface, a /proc of its own."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the egress proxy may connect to.

    Attributes:
        host: a name or address in lower case; ``*.example.com`` stands for every name below
            example.com, and not for itself.
        port: 1 to 65535.
    """

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Network:
    """What a confined process may do on the network.

    Attributes:
        external: it may connect anywhere, over TCP and UDP, without the proxy.
        allow: where the egress proxy connects to for it; empty: there is no proxy.
        listen: TCP ports that it may listen on.
        connect: TCP ports that it may connect to itself: the proxy's, filled in by the host.
        unix_sockets: it may make sockets of AF_UNIX (socketpair(2) is always allowed).
    """

    external: bool = False
    allow: tuple[Destination, ...] = ()
    listen: tuple[int, ...] = ()
    connect: tuple[int, ...] = ()
    unix_sockets: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a confined process may use; None leaves a limit as it is.

    Attributes:
        cpu_cores: cores that it runs on, by affinity (whole ones) or by the cgroup (any).
        memory_bytes: by the cgroup for all processes; by RLIMIT_DATA for each, roughly.
        processes: processes and threads, beside those that its user has already.
        open_files: descriptors of a process.
        file_bytes: the largest file that it may write.
    """

    cpu_cores: float | None = 1.0
    memory_bytes: int | None = 512 * MEBIBYTE
    processes: int | None = 128
    open_files: int | None = 1024
    file_bytes: int | None = None

    @property
    def data_bytes(self) -> int | None:
        """RLIMIT_DATA of a process: its memory, and room for stacks that are hardly used."""
        return None if self.memory_bytes is None else self.memory_bytes + STACKS_BYTES

    @property
    def all_processes(self) -> int | None:
        """Processes and threads of workers and host together, where one limit is for both."""
        return None if self.processes is None else self.processes + HOST_PROCESSES


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that a confined process may do. All paths are absolute and without links.

    Attributes:
        mode, isolation: see there.
        user: the numeric user and group to become when started by root; None stays the caller.
        read: files and folders that may be read; what stands in a folder too.
        write: files and folders that may be read, written, made and removed; never executed.
        execute: files and folders that may be read and executed.
        hidden: what stays unreadable, even inside a folder of ``read``, ``write`` or ``execute``:
            the rules are made around it.
        network, limits: see there.
        devices: what may be read, written and told to do things (ioctl(2)): character devices.
        keep_fds: descriptors that stay open, besides 0, 1 and 2.
        require: names of controls without which the process does not start in any mode.
    """

    mode: Mode = Mode.ENFORCE
    isolation: Isolation = Isolation.PROCESS
    user: int | None = None
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    network: Network = Network()
    limits: Limits = Limits()
    devices: tuple[str, ...] = ()
    keep_fds: tuple[int, ...] = ()
    require: tuple[str, ...] = ()

"""What an attempt is told of the world: the same facts outside and inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace


class BlockedError(Exception):
    """The action did not raise, but had no effect: it is blocked."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where things are; nothing of it is a secret of the sandbox.

    Attributes:
        agent: the folder of the agent that is attacked.
        field: a folder outside of it, which the user owns.
        host_pid, port: the agent's host, and its control port.
        neighbour_pid: an unconfined process of the same user that serves the ports below.
        prey_pid: a process of the same user that may be killed.
        target: the process that an attempt on a process is about.
        secret: what the neighbour tells, keeps and has in its memory; in ``field/secret`` too.
        address: where it is in the neighbour's memory.
        tcp_port, udp_port: where the neighbour listens, on 127.0.0.1 and ::1.
        abstract: the abstract name of its stream socket; ``field/socket`` is its path-based one.
        queue, segment: its POSIX message queue's name and its System V shared memory's key.
        worker_pids: the agent's workers.
        proxy_port: of the egress proxy; somebody else listens on it at 127.0.0.2.
        leaked_fd: a descriptor of ``field/secret`` that the host was started with.
    """

    agent: str
    field: str
    host_pid: int
    port: int
    neighbour_pid: int
    prey_pid: int
    secret: str
    address: int
    tcp_port: int
    udp_port: int
    abstract: str
    queue: str
    segment: int
    leaked_fd: int
    worker_pids: tuple[int, ...]
    proxy_port: int
    target: int = 0

    def outside(self, name: str) -> str:
        """Return the path of something in the field."""
        return os.path.join(self.field, name)  # noqa: PTH118 - strings, as the syscalls want them

    def inside(self, name: str) -> str:
        """Return the path of something in the agent's folder."""
        return os.path.join(self.agent, name)  # noqa: PTH118 - strings, as the syscalls want them

    def scratch(self, name: str) -> str:
        """Return a path that the worker may write, another one for each process."""
        return self.inside(f"runtime/cache/{name}-{os.getpid()}")

    def aim(self, pid: int) -> Ground:
        """Return the same ground with another target."""
        return replace(self, target=pid)

    def expect(self, told: bytes | str) -> str:
        """Return the secret as evidence, where it was told.

        Raises:
            BlockedError: it was not.
        """
        text = told.decode(errors="replace") if isinstance(told, bytes) else told
        if self.secret not in text:
            raise BlockedError(f"not the secret: {text[:60]!r}")
        return self.secret


Function = Callable[[Ground], str]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way out.

    Attributes:
        name: of the function; with ``@`` and a target for an attempt on a process.
        function: returns evidence; raises when it is blocked.
        needs_root: outside it succeeds as root alone.
        lacking: what a kernel may lack for it to succeed outside; empty: nothing.
        is_guarded: about the agent's host or worker, which may hold against it from outside too.
    """

    name: str
    function: Function
    needs_root: bool
    lacking: str
    is_guarded: bool = False


ATTEMPTS: dict[str, Attempt] = {}


def attempt(*, needs_root: bool = False, lacking: str = "") -> Callable[[Function], Function]:
    """Enter a function into the list of attempts."""

    def enter(function: Function) -> Function:
        name = function.__name__
        ATTEMPTS[name] = Attempt(name, function, needs_root, lacking)
        return function

    return enter


def attempt_on_process(
    *, needs_root: bool = False, lacking: str = ""
) -> Callable[[Function], Function]:
    """Enter a function thrice: against an unconfined neighbour, the host, and another worker."""

    def enter(function: Function) -> Function:
        name = function.__name__

        def on_neighbour(ground: Ground) -> str:
            return function(ground.aim(ground.neighbour_pid))

        def on_host(ground: Ground) -> str:
            return function(ground.aim(ground.host_pid))

        def on_sibling(ground: Ground) -> str:
            # An attempt runs in a child of the worker.
            return function(ground.aim(next(p for p in ground.worker_pids if p != os.getppid())))

        targets = {"neighbour": on_neighbour, "host": on_host, "sibling": on_sibling}
        for target, aimed in targets.items():
            full = f"{name}@{target}"
            ATTEMPTS[full] = Attempt(full, aimed, needs_root, lacking, target != "neighbour")
        return function

    return enter

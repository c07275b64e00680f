"""How much a process may use, by resource limits and affinity (getrlimit(2))."""

from __future__ import annotations

import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def limit_process(limits: dict[str, float | None], user: int) -> list[str]:
    """Set the limits of a policy for this process and what it starts; a lower one stays.

    Args:
        limits: the fields of `kagent_sdk.sandbox.policy.Limits`, with ``data_bytes`` for memory.
        user: who the process is, or will be.

    Returns:
        What was asked for and holds in part only, in words for people.

    Raises:
        OSError, ValueError: the kernel refused.
    """
    weaker: list[str] = []
    for key, number in (
        ("data_bytes", resource.RLIMIT_DATA),
        ("open_files", resource.RLIMIT_NOFILE),
        ("file_bytes", resource.RLIMIT_FSIZE),
    ):
        value = limits[key]
        if value is not None:
            _lower(number, int(value))
    processes = limits["processes"]
    if processes is not None:
        present = 0
        if user == 0:
            weaker.append("processes: the kernel does not count those of root")
        else:
            present = count_tasks(user)
        # The kernel counts all threads of the user, in other agents too.
        _lower(resource.RLIMIT_NPROC, present + int(processes))
    cores = limits["cpu_cores"]
    if cores is not None:
        whole = max(1, -(-int(cores * 1000) // 1000))
        available = os.sched_getaffinity(0)
        # The host is as busy as its worker while both start, and can go elsewhere later only.
        others = available - {_core_of(os.getppid())}
        allowed = others if len(others) >= whole else available
        os.sched_setaffinity(0, choose_cores(allowed, whole, os.getpid()))
        if whole != cores:
            weaker.append(f"cpu_cores: {whole} whole, as no cgroup counts {cores:g}")
    return weaker


def _core_of(pid: int) -> int:
    """Return the core that a process ran on last; -1 when nothing says so (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 3 ms
            return int(file.read().rpartition(b")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        return -1


def forbid_core_dumps() -> None:
    """Let a crash leave no image of the memory.

    One byte, not none: a handler that the kernel pipes dumps to is run at a limit of 0, and not at 1
    (core(5), fs/coredump.c); a file of one byte is not made either.

    Raises:
        OSError, ValueError: the kernel refused.
    """
    _lower(resource.RLIMIT_CORE, 1)


def choose_cores(available: Iterable[int], count: int, seed: int) -> list[int]:
    """Return so many of the cores: not always the first, which every agent would share."""
    cores = sorted(available)
    first = seed % len(cores)
    return (cores[first:] + cores[:first])[:count]


def count_tasks(user: int) -> int:
    """Return how many threads a user has, of those that can be seen; its host's are among them.

    A process without core dumps belongs to root in /proc: of those only the parent is asked.
    """
    parent = str(os.getppid())
    total = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if entry.name == parent or entry.stat().st_uid == user:
                total += _count_threads(entry.path, user)
        except OSError:
            continue  # it has ended
    return total


def _count_threads(folder: str, user: int) -> int:
    fd = os.open(f"{folder}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096).decode("ascii", "replace")
    finally:
        os.close(fd)
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    if fields.get("Uid", "").split("\t", 1)[0] != str(user):
        return 0
    return int(fields.get("Threads", "0"))


def _lower(number: int, value: int) -> None:
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(number, (value, value))

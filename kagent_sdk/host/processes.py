"""Memory, processor time, threads and descriptors of the agent's processes; and where we run.

Reading blocks (the kernel walks page tables for the proportional memory), so call it in a thread.
psutil is imported with the first sample, not before: a start must not wait for it.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import psutil

KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment. None: not known.

    Attributes:
        pid: its id.
        started_at_s: when it started, as Unix time.
        rss_bytes: resident memory, shared pages included.
        pss_bytes: resident memory, each shared page divided by the number of its users.
        uss_bytes: resident memory that it shares with nobody.
        cpu_s: user and system time since it started.
        cpu_percent: the same since the sample before, in percent of one core; None in the first.
        threads: how many.
        fds: open file descriptors.
    """

    pid: int
    started_at_s: float | None
    rss_bytes: int | None
    pss_bytes: int | None
    uss_bytes: int | None
    cpu_s: float | None
    cpu_percent: float | None
    threads: int | None
    fds: int | None


@dataclass(slots=True)
class _Watched:
    """A process, and what the sample before said of it."""

    process: psutil.Process
    sampled_at_s: float | None = None
    cpu_s: float = 0.0


class ProcessReader:
    """Sample processes again and again.

    Not to be used by two threads at a time.

    Args:
        clock: monotonic, in seconds.
        proc: where the process file system is mounted, for the files that psutil does not read.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")
    ) -> None:
        self._clock = clock
        self._proc = proc
        self._watched: dict[int, _Watched] = {}

    def sample(self, pids: Iterable[int]) -> dict[int, ProcessSample]:
        """Return a sample of each process; those that are gone, or zombies, are left out.

        What is known of processes that are not asked for any more is forgotten.
        """
        self._watched = {pid: watched for pid in pids if (watched := self._watch(pid))}
        samples = {pid: self._sample(watched) for pid, watched in self._watched.items()}
        return {pid: sample for pid, sample in samples.items() if sample}

    def _watch(self, pid: int) -> _Watched | None:
        import psutil  # noqa: PLC0415 - 15 ms that no start should wait for

        watched = self._watched.get(pid)
        # is_running compares start times: a number that was given to another process is not ours.
        if watched and watched.process.is_running():
            return watched
        try:
            return _Watched(psutil.Process(pid))
        except psutil.Error:
            return None

    def _sample(self, watched: _Watched) -> ProcessSample | None:
        import psutil  # noqa: PLC0415 - as above

        process = watched.process
        try:
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    return None
                times = process.cpu_times()
                cpu_s = times.user + times.system
                rollup = _read(self._proc / str(process.pid) / "smaps_rollup")
                pss_bytes, uss_bytes = parse_smaps_rollup(rollup)
                return ProcessSample(
                    pid=process.pid,
                    started_at_s=process.create_time(),
                    rss_bytes=process.memory_info().rss,
                    pss_bytes=pss_bytes,
                    uss_bytes=uss_bytes,
                    cpu_s=cpu_s,
                    cpu_percent=self._measure_cpu_percent(watched, cpu_s),
                    threads=process.num_threads(),
                    fds=_count_fds(process),
                )
        except psutil.Error:
            # Ended in between.
            return None

    def _measure_cpu_percent(self, watched: _Watched, cpu_s: float) -> float | None:
        now_s = self._clock()
        before_s, cpu_before_s = watched.sampled_at_s, watched.cpu_s
        watched.sampled_at_s, watched.cpu_s = now_s, cpu_s
        if before_s is None or now_s <= before_s:
            return None
        return 100 * (cpu_s - cpu_before_s) / (now_s - before_s)


def parse_smaps_rollup(text: str | None) -> tuple[int | None, int | None]:
    """Read proportional and unshared memory in bytes (proc_pid_smaps(5)); None if not known."""
    sizes: dict[str, int] = {}
    for line in (text or "").splitlines():
        match = re.fullmatch(r"(\w+): +(\d+) kB", line)
        if match:
            sizes[match[1]] = int(match[2]) * KIBIBYTE
    private = [size for name, size in sizes.items() if name.startswith("Private_")]
    return sizes.get("Pss"), sum(private) if private else None


def _count_fds(process: psutil.Process) -> int | None:
    import psutil  # noqa: PLC0415 - as above

    try:
        return process.num_fds()
    except psutil.AccessDenied:
        return None


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What tells a container from a machine.

    Attributes:
        pid: our own process id.
        environ: our environment.
        marks: which of `CONTAINER_MARKS` exist.
        membership: what ``/proc/self/cgroup`` says.
    """

    pid: int
    environ: Mapping[str, str]
    marks: frozenset[str]
    membership: str


CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and podman put into every container."""

# KUBERNETES_SERVICE_HOST: kubelet. container: podman, LXC, systemd-nspawn
# (https://systemd.io/CONTAINER_INTERFACE).
_CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container")
# Without a cgroup namespace the path tells: /docker/<id>, /kubepods/burstable/pod<id>,
# /machine.slice/libpod-<id>.scope, /system.slice/cri-containerd-<id>.scope, /lxc.payload.<name>.
_CONTAINER_CGROUP = re.compile(
    r"/(docker|lxc|ecs|garden)/|/kubepods|[/-](docker|libpod|cri-containerd|crio|nerdctl)-"
    r"|/lxc\.payload"
)


def is_container(facts: ContainerFacts) -> bool:
    """Say whether we run in a container, where listening on every address is the rule."""
    return bool(
        facts.pid == 1
        or facts.marks
        or any(facts.environ.get(name) for name in _CONTAINER_VARIABLES)
        or _CONTAINER_CGROUP.search(facts.membership)
    )


def in_container(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> bool:
    """Look around, and say whether this process runs in a container.

    Args:
        root: stands for ``/``.
        environ: our environment, unless given.
    """
    facts = ContainerFacts(
        pid=os.getpid(),
        environ=os.environ if environ is None else environ,
        marks=frozenset(mark for mark in CONTAINER_MARKS if (root / mark.lstrip("/")).exists()),
        membership=_read(root / "proc/self/cgroup") or "",
    )
    return is_container(facts)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        # The process is gone, or the kernel does not let us look into it (ptrace(2)).
        return None

"""Memory, cores and processes end where the configuration says; and so does the agent, in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.images.lockdown import Launcher
from tests.images.podman import Container
from tests.integration.waiting import wait_until

LIMIT_BYTES = 512 * 1024 * 1024
"""``sandbox.limits.memory`` by default."""

KILLED = 137
"""128 and SIGKILL, as engines have it."""

STOP_S = 30
"""``shutdown.grace_s`` by default and 5 s more, as the manifests say."""

ORPHANS = 1000

BUSY_S = 4.0
TRIES = 3

NOTHING = 0.1
"""Cores that are as good as none."""

SPIN_BESIDE = f"""
import entrypoint
print(entrypoint.spin("processes", {BUSY_S}).model_dump_json())
"""

COUNT_ZOMBIES = """
import glob
count = 0
for path in glob.glob("/proc/[0-9]*/stat"):
    try:
        count += open(path).read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        pass  # it has ended
print(count)
"""


def test_memory_ends_at_the_limit_and_the_next_boot_says_so(trial: Launcher) -> None:
    """The kernel's kill leaves no line in any log: the agent must tell of it."""
    container = trial.start_ready(
        env={
            "AGENT_LIMITS__MEMORY_SOFT_RATIO": "1.0",  # else the task is refused in time
            "AGENT_WORKER__CRASH_LIMIT": "2",
            "AGENT_WORKER__STABLE_S": "1000",
        }
    )
    words = ("kos-agent", "call", "eat", f"limit_bytes:={2 * LIMIT_BYTES}")
    first = container.exec(*words, check=False)
    crash = container.status()["workers"]["last_crash"]
    peak_bytes = read_peak_bytes(container)
    wait_until(lambda: container.status()["workers"]["ready"] == 1)
    container.exec(*words, "--async")
    code = container.wait()
    container.start()
    container.wait_ready()
    last_exit = container.status()["last_exit"]

    assert first.returncode == 1
    assert "(OOM)" in first.stderr
    assert (crash["cause"], crash["oom"], crash["signal"]) == ("oom", True, "SIGKILL")
    assert peak_bytes == pytest.approx(LIMIT_BYTES, rel=0.01)
    assert code in {75, KILLED}
    assert_memory_is_told(last_exit, is_host_killed=code == KILLED)


def test_two_busy_threads_of_a_worker_share_one_core(standing_trial: Container) -> None:
    """An agent that goes wild takes no more from its neighbours than it was given."""
    words = ("kind=threads", f"seconds:={BUSY_S}")
    assert one_core_is_used(lambda: standing_trial.call("spin", *words))


def test_two_busy_processes_in_the_container_share_one_core(standing_trial: Container) -> None:
    """The limit is the container's: it holds beside the worker too."""
    words = ("python3", "-c", SPIN_BESIDE)
    assert one_core_is_used(lambda: json.loads(standing_trial.exec(*words).stdout))


def test_a_busy_agent_finishes_its_tasks_when_it_is_stopped(trial: Launcher) -> None:
    """A deployment that replaces a container loses no work."""
    container = trial.start_ready()
    container.exec("kos-agent", "call", "nap", "seconds:=3", "--id", "long", "--async")
    wait_until(lambda: container.status()["tasks"]["working"] == 1)
    code = container.stop(STOP_S)
    container.start()
    container.wait_ready()
    task = container.read_task("long")

    assert code == 0
    assert (task["state"], task["output"], task["attempt"]) == ("completed", 3, 1)
    assert container.status()["last_exit"]["host"]["how"] == "stopped: SIGTERM"


def test_a_thousand_orphans_leave_nothing_behind(standing_trial: Container) -> None:
    """PID 1 of a container must wait for every process that nobody else waits for."""
    container = standing_trial
    before = count_processes(container)
    left = container.call("leave_orphans", f"count:={ORPHANS}")
    wait_until(lambda: count_zombies(container) == 0)

    assert left == ORPHANS
    assert count_processes(container) == before
    assert container.call("leave_orphans", "count:=1") == 1


def assert_memory_is_told(last_exit: dict[str, Any], *, is_host_killed: bool) -> None:
    """Fail unless the agent says that its life before ended for memory.

    The kernel takes the worker, which has most; but until that memory is given back it may take the
    host as well, whose container then counts anew.
    """
    host, worker = last_exit["host"], last_exit["worker"]
    if is_host_killed:
        assert (host["cause"], host["how"]) == ("killed", "killed, perhaps for memory")
    else:
        assert (host["cause"], host["exit_code"]) == ("crash_loop", 75)
        assert (worker["cause"], worker["oom"]) == ("oom", True)


def read_peak_bytes(container: Container) -> int:
    """Return how much memory a container has had at most, host and worker together."""
    files = "memory.peak memory/memory.max_usage_in_bytes"  # of v2 and v1
    command = f"cd /sys/fs/cgroup && cat {files} 2>/dev/null"
    return int(container.exec("sh", "-c", command, check=False).stdout)


def one_core_is_used(spin: Callable[[], dict[str, float]]) -> bool:
    """Tell whether a measurement finds 1.0 ± 0.1 cores in use, and none finds more.

    Where other work leaves no core idle there is none to be given: then it is enough that it is no
    more than one.

    Args:
        spin: keeps two busy for `BUSY_S`, returns ``used_s`` and ``idle_s``.
    """
    found = []
    for _ in range(TRIES):
        cores, idle_cores = (seconds / BUSY_S for seconds in spin().values())
        found.append((cores, idle_cores))
        assert cores < 1.1, found
        if cores > 0.9:
            return True
    return all(idle_cores < NOTHING for _, idle_cores in found)


def count_zombies(container: Container) -> int:
    """Return how many processes have ended inside without being waited for."""
    return int(container.exec("python3", "-c", COUNT_ZOMBIES).stdout)


def count_processes(container: Container) -> int:
    """Return how many processes are in a container, as the machine sees it."""
    return len(container.podman.run("top", container.name, "pid").stdout.splitlines()) - 1

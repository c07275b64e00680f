"""Control groups of every kind, as trees of files in their real formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kagent_sdk.host.cgroup import (
    CgroupCpu,
    CgroupMemory,
    CgroupPids,
    CgroupPressure,
    CgroupReader,
    CgroupSample,
    MemoryLevel,
)

MIB = 1024 * 1024
UNLIMITED = "9223372036854771712\n"
PRESSURE = "some avg10={0}.00 avg60=0.00 avg300=0.00 total=1000000\n"
V2_MOUNT = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

V2_CGROUP = {
    "cgroup.events": "populated 1\nfrozen 0\n",
    "memory.max": f"{512 * MIB}\n",
    "memory.current": f"{200 * MIB}\n",
    "memory.stat": f"anon {90 * MIB}\nfile {110 * MIB}\ninactive_file {50 * MIB}\n",
    "memory.events": "low 0\nhigh 0\nmax 8\noom 2\noom_kill 1\noom_group_kill 0\n",
    "cpu.max": "50000 100000\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nnr_periods 100\nnr_throttled 7\n"
    "throttled_usec 1500000\n",
    "pids.current": "12\n",
    "pids.max": "128\n",
    "memory.pressure": PRESSURE.format(1),
    "cpu.pressure": PRESSURE.format(2),
    "io.pressure": PRESSURE.format(3),
}


def grow(root: Path, files: Mapping[str, str]) -> CgroupReader:
    """Write files below ``root`` and return a reader of that tree."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CgroupReader(root)


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files as lying in a folder."""
    return {f"{folder}/{name}": text for name, text in files.items()}


def test_a_machine_without_control_groups_has_no_numbers(tmp_path: Path) -> None:
    """Unknown must not look like zero."""
    assert CgroupReader(tmp_path).read() == CgroupSample()


def test_v2_in_a_container_is_read_at_its_mount(tmp_path: Path) -> None:
    """With a cgroup namespace the path is `/` and the mount shows the container's own cgroup."""
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            **below("sys/fs/cgroup", V2_CGROUP),
        },
    ).read()

    assert sample.version == "v2"
    assert sample.memory == CgroupMemory(
        limit_bytes=512 * MIB,
        usage_bytes=200 * MIB,
        used_bytes=150 * MIB,
        oom_kills=1,
        levels=(MemoryLevel(150 * MIB, 512 * MIB),),
    )
    assert sample.cpu == CgroupCpu(0.5, 2.5, 7, 1.5)
    assert sample.pids == CgroupPids(12, 128)
    assert sample.pressure.scope == "cgroup"
    pressures = (sample.pressure.memory, sample.pressure.cpu, sample.pressure.io)
    assert [one and one.some.avg10 for one in pressures] == [1.0, 2.0, 3.0]


def test_v2_limits_of_the_cgroups_around_count(tmp_path: Path) -> None:
    """A pod's limit kills its containers just as their own does."""
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/agent\n",
            "proc/self/mountinfo": V2_MOUNT,
            **below("sys/fs/cgroup/pod/agent", V2_CGROUP | {"memory.max": "max\n"}),
            **below(
                "sys/fs/cgroup/pod",
                V2_CGROUP
                | {
                    "memory.max": f"{256 * MIB}\n",
                    "memory.current": f"{250 * MIB}\n",
                    "cpu.max": "20000 100000\n",
                    "cpu.stat": "usage_usec 9000000\nnr_throttled 70\nthrottled_usec 9500000\n",
                    "pids.max": "64\n",
                },
            ),
            # The root of the hierarchy has none of the limits.
            "sys/fs/cgroup/cpu.stat": "usage_usec 99\n",
        },
    ).read()

    assert sample.memory.limit_bytes == 256 * MIB
    assert sample.memory.used_bytes == 150 * MIB
    assert sample.memory.levels == (MemoryLevel(200 * MIB, 256 * MIB),)
    assert sample.cpu == CgroupCpu(0.2, 2.5, 70, 9.5)
    assert sample.pids == CgroupPids(12, 64)


def test_v2_without_any_limit_is_unlimited(tmp_path: Path) -> None:
    """A session on a desktop: `max` everywhere, and no quota to be throttled by."""
    files = V2_CGROUP | {"memory.max": "max\n", "cpu.max": "max 100000\n", "pids.max": "max\n"}
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice\n",
            "proc/self/mountinfo": V2_MOUNT,
            **below("sys/fs/cgroup/user.slice", files),
        },
    ).read()

    assert (sample.memory.limit_bytes, sample.memory.levels) == (None, ())
    assert sample.memory.used_bytes == 150 * MIB
    assert (sample.cpu.limit_cores, sample.cpu.usage_s) == (None, 2.5)
    assert (sample.pids.current, sample.pids.limit) == (12, None)


def test_the_root_of_v2_knows_little_and_the_pressure_is_the_machine_s(tmp_path: Path) -> None:
    """What the kernel does not count for the root must be unknown, not zero."""
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.stat": "usage_usec 2000000\n",
            "proc/pressure/cpu": PRESSURE.format(9),
        },
    ).read()

    assert sample.version == "v2"
    assert sample.memory == CgroupMemory()
    assert sample.cpu == CgroupCpu(usage_s=2.0)
    assert sample.pids == CgroupPids()
    assert sample.pressure.scope == "system"
    assert sample.pressure.cpu is not None
    assert sample.pressure.memory is None


def v1_tree(root: str, path: str, point: str) -> dict[str, str]:
    """Return /proc and the mounts of a v1 system; its hierarchies show ``root``."""
    controllers = ("memory", "cpu,cpuacct", "pids")
    return {
        "proc/self/cgroup": "".join(
            f"{number}:{names}:{path}\n" for number, names in enumerate(controllers, start=2)
        ),
        "proc/self/mountinfo": "".join(
            f"3{number} 31 0:3{number} {root} {point}/{names} ro - cgroup cgroup rw,{names}\n"
            for number, names in enumerate(controllers)
        ),
    }


V1_MEMORY = {
    "memory.limit_in_bytes": f"{512 * MIB}\n",
    "memory.usage_in_bytes": f"{200 * MIB}\n",
    "memory.stat": f"inactive_file 1\nhierarchical_memory_limit {512 * MIB}\n"
    f"total_inactive_file {40 * MIB}\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}
V1_CPU = {
    "cpu.cfs_quota_us": "150000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.stat": "nr_periods 50\nnr_throttled 4\nthrottled_time 2500000000\n",
    "cpuacct.usage": "7250000000\n",
}
V1_PIDS = {"pids.current": "5\n", "pids.max": "max\n"}


def test_v1_in_a_container_is_read_at_its_mounts(tmp_path: Path) -> None:
    """Without a namespace the path is the engine's, and only its end is mounted."""
    sample = grow(
        tmp_path,
        {
            **v1_tree("/docker/ab", "/docker/ab", "/sys/fs/cgroup"),
            **below("sys/fs/cgroup/memory", V1_MEMORY),
            **below("sys/fs/cgroup/cpu,cpuacct", V1_CPU),
            **below("sys/fs/cgroup/pids", V1_PIDS),
        },
    ).read()

    assert sample.version == "v1"
    assert sample.memory == CgroupMemory(
        limit_bytes=512 * MIB,
        usage_bytes=200 * MIB,
        used_bytes=160 * MIB,
        oom_kills=3,
        levels=(MemoryLevel(160 * MIB, 512 * MIB),),
    )
    assert sample.cpu == CgroupCpu(1.5, 7.25, 4, 2.5)
    assert sample.pids == CgroupPids(5, None)
    assert sample.pressure == CgroupPressure()


def test_a_path_that_the_container_does_not_see_falls_back_to_the_mount(tmp_path: Path) -> None:
    """The classic case: /proc says /docker/ab, and below the mount there is no such folder."""
    sample = grow(
        tmp_path,
        {
            **v1_tree("/", "/docker/ab", "/sys/fs/cgroup"),
            **below("sys/fs/cgroup/memory", V1_MEMORY),
        },
    ).read()

    assert sample.memory.limit_bytes == 512 * MIB


def test_v1_knows_of_limits_outside_of_the_container(tmp_path: Path) -> None:
    """The pod's cgroup cannot be seen from inside, but its limit holds all the same."""
    stat = f"hierarchical_memory_limit {128 * MIB}\ntotal_inactive_file 0\n"
    files = V1_MEMORY | {"memory.limit_in_bytes": UNLIMITED, "memory.stat": stat}
    sample = grow(
        tmp_path,
        {
            **v1_tree("/docker/ab", "/docker/ab", "/sys/fs/cgroup"),
            **below("sys/fs/cgroup/memory", files),
        },
    ).read()

    assert sample.memory.limit_bytes == 128 * MIB
    assert sample.memory.levels == (MemoryLevel(200 * MIB, 128 * MIB),)


def test_v1_without_limits_is_unlimited(tmp_path: Path) -> None:
    """Huge numbers and -1 are v1's way of saying that there is no limit."""
    stat = f"hierarchical_memory_limit {UNLIMITED}total_inactive_file 0\n"
    sample = grow(
        tmp_path,
        {
            **v1_tree("/", "/", "/sys/fs/cgroup"),
            **below(
                "sys/fs/cgroup/memory",
                V1_MEMORY | {"memory.limit_in_bytes": UNLIMITED, "memory.stat": stat},
            ),
            **below("sys/fs/cgroup/cpu,cpuacct", V1_CPU | {"cpu.cfs_quota_us": "-1\n"}),
        },
    ).read()

    assert (sample.memory.limit_bytes, sample.memory.levels) == (None, ())
    assert sample.cpu == CgroupCpu(None, 7.25, 4, 2.5)
    assert sample.pids == CgroupPids()


def test_in_a_hybrid_every_controller_is_read_where_it_lives(tmp_path: Path) -> None:
    """The hybrid of systemd keeps v1 controllers and adds an empty v2 hierarchy with pressure."""
    tree = v1_tree("/", "/app", "/sys/fs/cgroup")
    unified = "49 31 0:49 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    events = {"cgroup.events": "populated 1\n", "memory.pressure": PRESSURE.format(4)}
    sample = grow(
        tmp_path,
        {
            **tree,
            "proc/self/cgroup": tree["proc/self/cgroup"] + "0::/app\n",
            "proc/self/mountinfo": tree["proc/self/mountinfo"] + unified,
            **below("sys/fs/cgroup/memory/app", V1_MEMORY),
            **below("sys/fs/cgroup/unified/app", events),
        },
    ).read()

    assert sample.version == "hybrid"
    assert sample.memory.used_bytes == 160 * MIB
    assert sample.pressure.scope == "cgroup"
    assert sample.pressure.memory is not None
    assert sample.pressure.memory.some.avg10 == 4.0
    assert sample.pressure.io is None


def test_a_cgroup_without_pressure_files_falls_back_to_the_machine_s(tmp_path: Path) -> None:
    """`cgroup.pressure` can be off for a cgroup; the machine's pressure is still worth knowing."""
    files = {name: text for name, text in V2_CGROUP.items() if not name.endswith(".pressure")}
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            **below("sys/fs/cgroup", files),
            "proc/pressure/memory": PRESSURE.format(5),
        },
    ).read()

    assert sample.pressure.scope == "system"


@pytest.mark.parametrize("usage", ["", "max\n", "-\n"])
def test_a_usage_that_cannot_be_read_gives_no_level(tmp_path: Path, usage: str) -> None:
    """A limit without a usage must not look like an agent that uses nothing."""
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            **below("sys/fs/cgroup", V2_CGROUP | {"memory.current": usage}),
        },
    ).read()

    assert sample.memory.limit_bytes == 512 * MIB
    assert (sample.memory.used_bytes, sample.memory.levels) == (None, ())


def test_a_process_that_was_moved_is_found_again(tmp_path: Path) -> None:
    """Container engines move processes after their start and remove the old cgroup."""
    reader = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/before\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/before/pids.current": "1\n",
        },
    )
    assert [reader.read().pids.current for _ in range(2)] == [1, 1]
    (tmp_path / "sys/fs/cgroup/before/pids.current").unlink()
    (tmp_path / "sys/fs/cgroup/before").rmdir()
    grow(
        tmp_path,
        {"proc/self/cgroup": "0::/after\n", "sys/fs/cgroup/after/pids.current": "2\n"},
    )

    assert reader.read().pids.current == 2


def test_a_mount_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    """A mount that another one hides still stands in mountinfo."""
    hidden = "40 31 0:37 / /hidden rw - cgroup2 cgroup2 rw\n"
    sample = grow(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": hidden + V2_MOUNT,
            **below("sys/fs/cgroup", V2_CGROUP),
        },
    ).read()

    assert sample.pids.current == 12

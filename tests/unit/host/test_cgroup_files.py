"""The kernel's files on control groups and pressure, in their real formats."""

from __future__ import annotations

import pytest

from kagent_sdk.host.cgroup_files import (
    UNIFIED,
    CgroupMount,
    Pressure,
    Waiting,
    find_relative_path,
    parse_cores,
    parse_limit,
    parse_membership,
    parse_mounts,
    parse_number,
    parse_pressure,
    parse_table,
)


def test_the_membership_of_a_hybrid_system_is_read() -> None:
    """On v1 every controller may lie elsewhere, and paths may hold colons."""
    text = (
        "9:name=systemd:/\n4:memory:/app/a:b\n2:cpu,cpuacct:/jobs\n0::/user.slice\nnonsense\n:x:/\n"
    )

    assert parse_membership(text) == {
        "name=systemd": "/",
        "memory": "/app/a:b",
        "cpu": "/jobs",
        "cpuacct": "/jobs",
        UNIFIED: "/user.slice",
    }


def test_the_mounts_of_control_groups_are_found_among_all_others() -> None:
    """Lines of other file systems, and mount points with spaces, must not confuse it."""
    text = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro shared:9 master:1 - cgroup cgroup rw,memory\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 / /mnt/my\\040groups rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        "cut off - cgroup\n"
    )

    assert parse_mounts(text) == [
        CgroupMount("/sys/fs/cgroup/memory", "/docker/ab", frozenset({"rw", "memory"})),
        CgroupMount("/sys/fs/cgroup/cpu,cpuacct", "/", frozenset({"rw", "cpu", "cpuacct"})),
        CgroupMount("/mnt/my groups", "/", frozenset({UNIFIED})),
    ]


@pytest.mark.parametrize(
    ("mount_root", "path", "relative"),
    [
        ("/", "/", ""),
        ("/", "/user.slice/session-1.scope", "user.slice/session-1.scope"),
        ("/docker/ab", "/docker/ab", ""),
        ("/docker/ab", "/docker/ab/child", "child"),
        ("/docker/ab", "/docker/abc", ""),
        ("/docker/ab", "/", ""),
        ("/", "/../../other", ""),
        ("/..", "/app", ""),
    ],
)
def test_the_path_below_the_mount_is_found(mount_root: str, path: str, relative: str) -> None:
    """A container sees the host's path and its own mount, or the other way round."""
    assert find_relative_path(mount_root, path) == relative


@pytest.mark.parametrize(
    ("text", "number", "limit"),
    [
        ("536870912\n", 536870912, 536870912),
        ("0\n", 0, 0),
        ("max\n", None, None),
        ("9223372036854771712\n", 9223372036854771712, None),
        ("-1\n", -1, None),
        ("", None, None),
        ("12 34", None, None),
        (None, None, None),
    ],
)
def test_a_limit_that_is_not_set_is_none(
    text: str | None, number: int | None, limit: int | None
) -> None:
    """An agent without a limit must not compute a ratio to eight exabytes."""
    assert parse_number(text) == number
    assert parse_limit(text) == limit


def test_a_table_is_read_and_odd_lines_are_skipped() -> None:
    """New kernels add lines, and memory.stat of one has other members than of another."""
    text = "low 0\nhigh 3\noom_kill 2\nname only\n\nbroken x\nspaces  7\n"

    assert parse_table(text) == {"low": 0, "high": 3, "oom_kill": 2, "spaces": 7}
    assert parse_table(None) == {}


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("50000", "100000", 0.5),
        ("400000", "100000\n", 4.0),
        ("max", "100000", None),
        ("-1\n", "100000\n", None),
        ("50000", "0", None),
        ("50000", "-5", None),
        ("50000", None, None),
        (None, "100000", None),
    ],
)
def test_a_quota_becomes_cores(quota: str | None, period: str | None, cores: float | None) -> None:
    """People think in cores, the kernel in microseconds."""
    assert parse_cores(quota, period) == cores


def test_pressure_is_read() -> None:
    """It tells of memory trouble before the kernel kills."""
    text = (
        "some avg10=0.72 avg60=1.57 avg300=0.52 total=4384395\n"
        "full avg10=0.00 avg60=0.10 avg300=0.00 total=20\n"
    )

    assert parse_pressure(text) == Pressure(
        Waiting(0.72, 1.57, 0.52, 4.384395), Waiting(0.0, 0.1, 0.0, 0.00002)
    )


@pytest.mark.parametrize("text", [None, "", "\n", "nonsense 5\n"])
def test_without_pressure_there_is_none(text: str | None) -> None:
    """Zero would claim that nothing ever waits."""
    assert parse_pressure(text) is None


def test_what_is_missing_of_a_pressure_line_is_none() -> None:
    """Kernels before 5.13 have no `full` line for the processor."""
    assert parse_pressure("some avg10=1.00\n") == Pressure(Waiting(avg10=1.0), Waiting())
    assert parse_pressure("full total=5000000\n") == Pressure(Waiting(), Waiting(total_s=5.0))

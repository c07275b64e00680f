"""Control groups on a file system that looks like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kagent_sdk.sandbox import cgroups
from kagent_sdk.sandbox.cgroups import CgroupError, WorkerCgroup, make_cgroup
from kagent_sdk.sandbox.policy import Limits

NAME = f"kagent-{os.getpid()}"
LIMITS = Limits(cpu_cores=0.5, memory_bytes=64 << 20, processes=10)

V1 = """\
30 20 0:30 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory
31 20 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
32 20 0:32 /box /sys/fs/cgroup/pi\\040ds rw - cgroup cgroup rw,pids
garbage
"""
V2 = "40 20 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


class Kernel:
    """Files of /proc and of the control groups, below a folder.

    The kernel makes the files of a group with its folder; here they are there before, so that a
    folder of ours is one that ``mkdir`` finds already: it is renamed into place.
    """

    def __init__(self, root: Path, mounts: str, membership: str) -> None:
        self.root = root
        proc = root / "proc/self"
        proc.mkdir(parents=True)
        (proc / "mountinfo").write_text(mounts)
        (proc / "cgroup").write_text(membership)

    def group(self, path: str, **files: str) -> Path:
        """Make a control group; ``__`` in a file's name stands for a dot."""
        folder = self.root / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Let a new folder have the files that are listed here for its controller, as the kernel does."""
    files: dict[str, dict[str, str]] = {}
    real = cgroups.make_folder

    def make(path: str) -> None:
        real(path)
        for part, names in files.items():
            if part in path:
                for name, text in names.items():
                    (Path(path) / name).write_text(text)

    monkeypatch.setattr(cgroups, "make_folder", make)
    return files


def test_v1_limits_each_controller_in_its_hierarchy(
    tmp_path: Path, made: dict[str, dict[str, str]]
) -> None:
    """Each has a folder of its own, below the group that the host is in."""
    kernel = Kernel(tmp_path, V1, "3:memory:/me\n2:cpu,cpuacct:/\n1:pids:/box/in\n0::/\n")
    kernel.group("/sys/fs/cgroup/memory/me")
    kernel.group("/sys/fs/cgroup/cpu")
    kernel.group("/sys/fs/cgroup/pi ds/in")
    made["/memory/"] = dict.fromkeys(
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cgroup.procs"), ""
    )
    made["/cpu/"] = dict.fromkeys(("cpu.cfs_period_us", "cpu.cfs_quota_us", "cgroup.procs"), "")
    made["/pi ds/"] = dict.fromkeys(("pids.max", "cgroup.procs"), "")

    group = make_cgroup(LIMITS, root=str(tmp_path))
    group.take(4711)

    top = tmp_path / "sys/fs/cgroup"
    memory = top / "memory/me" / NAME
    assert group.held == ("memory", "cpu", "pids")
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(64 << 20)
    assert (top / "cpu" / NAME / "cpu.cfs_quota_us").read_text() == "50000"
    assert (top / "pi ds/in" / NAME / "pids.max").read_text() == "10"
    assert (memory / "cgroup.procs").read_text() == "4711"
    group.close()


def test_v2_limits_all_in_one_group(tmp_path: Path, made: dict[str, dict[str, str]]) -> None:
    """Nothing is handed down that is already."""
    kernel = Kernel(tmp_path, V2, "0::/box\n")
    kernel.group(
        "/sys/fs/cgroup/box",
        cgroup__controllers="cpu memory pids\n",
        cgroup__subtree_control="memory\n",
    )
    made["/box/"] = dict.fromkeys(
        ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.procs"), ""
    )

    group = make_cgroup(LIMITS, root=str(tmp_path))

    box = tmp_path / "sys/fs/cgroup/box"
    assert group.folders == (str(box / NAME),)
    assert (box / "cgroup.subtree_control").read_text().strip() == "+cpu +pids"
    assert (box / NAME / "memory.max").read_text() == str(64 << 20)
    assert (box / NAME / "memory.swap.max").read_text() == "0"
    assert (box / NAME / "cpu.max").read_text() == "50000 100000"
    assert (box / NAME / "pids.max").read_text() == "10"
    group.close()


def test_groups_of_hosts_that_are_gone_are_swept(
    tmp_path: Path, made: dict[str, dict[str, str]]
) -> None:
    """A host that has dropped its privileges cannot remove its own."""
    kernel = Kernel(tmp_path, V1, "3:memory:/\n")
    old = kernel.group("/sys/fs/cgroup/memory/kagent-99999999")
    running = kernel.group("/sys/fs/cgroup/memory/kagent-1")
    other = kernel.group("/sys/fs/cgroup/memory/kagent-x")
    (tmp_path / "proc/1").mkdir()
    made["/memory/"] = dict.fromkeys(("memory.limit_in_bytes", "cgroup.procs"), "")

    group = make_cgroup(Limits(None, 64 << 20, None), root=str(tmp_path))

    assert not old.exists()
    assert running.exists()
    assert other.exists()
    assert group.held == ("memory",)
    group.close()


@pytest.mark.parametrize(
    ("limits", "told"),
    [(Limits(None, None, None), "no limit"), (LIMITS, "none of the controllers")],
)
def test_where_there_is_nothing_to_do_it_says_so(tmp_path: Path, limits: Limits, told: str) -> None:
    """A machine without control groups is told from one that forbids them."""
    Kernel(tmp_path, "", "")

    with pytest.raises(CgroupError, match=told):
        make_cgroup(limits, root=str(tmp_path))


def test_a_group_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Here a new folder lacks the kernel's files, as where they are forbidden."""
    kernel = Kernel(tmp_path, V1, "3:memory:/\n")
    parent = kernel.group("/sys/fs/cgroup/memory")

    with pytest.raises(CgroupError, match="cannot be written"):
        make_cgroup(LIMITS, root=str(tmp_path))
    assert list(parent.iterdir()) == []


def test_a_host_that_is_alone_in_its_group_moves_one_down(
    tmp_path: Path, made: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of v2 hands nothing down while a process is in it (cgroup-v2.rst)."""
    kernel = Kernel(tmp_path, V2, "0::/\n")
    top = kernel.group(
        "/sys/fs/cgroup",
        cgroup__controllers="pids",
        cgroup__subtree_control="",
        cgroup__procs=f"{os.getpid()}\n",
    )
    made["/cgroup/"] = dict.fromkeys(("pids.max", "cgroup.procs"), "")
    real, asked = cgroups.write_file, 0

    def write(path: str, text: str) -> None:
        nonlocal asked
        if text == "+pids":
            asked += 1
            if asked == 1:
                raise OSError(16, "Device or resource busy")
        real(path, text)

    monkeypatch.setattr(cgroups, "write_file", write)

    group = make_cgroup(Limits(None, None, 10), root=str(tmp_path))

    assert (top / f"{NAME}-host/cgroup.procs").read_text() == str(os.getpid())
    assert (top / "cgroup.subtree_control").read_text() == "+pids"
    assert isinstance(group, WorkerCgroup)
    group.close()

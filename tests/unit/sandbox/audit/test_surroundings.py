"""What is around a worker: mounts, cgroups, the host's memory, the vault, places for canaries."""

from __future__ import annotations

import pytest

from kagent_sdk.sandbox.audit.cgroups import check_cgroup
from kagent_sdk.sandbox.audit.mounts import check_root, mount_of, parse_mountinfo
from kagent_sdk.sandbox.audit.places import is_given
from kagent_sdk.sandbox.audit.surroundings import check_host_memory, check_vault
from kagent_sdk.sandbox.controls import Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import HOST_PROCESSES, MEBIBYTE, Limits, Policy

POLICY = Policy()

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:5 / /dev rw,nosuid - devtmpfs udev rw
40 22 0:40 / /with\040blank ro - tmpfs tmpfs rw
41 40 0:41 / /with\040blank rw - tmpfs tmpfs ro
no mount at all
"""


def root(text: str, *, is_container: bool = True) -> Finding:
    """Return the finding on a root."""
    (finding,) = check_root(POLICY, text, is_container=is_container, where="mountinfo")
    return finding


def test_a_writable_root_is_found() -> None:
    """It matters in a container, which can have another one; that of a machine is not ours."""
    assert root(MOUNTS).verdict is Verdict.MISSING
    assert root(MOUNTS).actual == "writable (ext4)"
    assert root(MOUNTS).severity is Severity.WARNING
    assert root(MOUNTS, is_container=False).severity is Severity.INFO


def test_a_read_only_root_is_found() -> None:
    """By the mount, or by the file system itself; the last mount over the others counts."""
    assert root("1 0 0:1 / / ro - overlay overlay rw").verdict is Verdict.IN_FORCE
    assert root("1 0 0:1 / / rw - squashfs x ro").verdict is Verdict.IN_FORCE
    covered = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / / ro - overlay y rw"
    assert root(covered).verdict is Verdict.IN_FORCE


def test_no_mounts_say_nothing() -> None:
    """A /proc that is not there, as on other systems."""
    assert check_root(POLICY, "", is_container=True, where="") == ()


def test_the_mount_of_a_path_is_the_longest() -> None:
    """Names may hold blanks, and a folder is not the one whose name it begins with."""
    mounts = parse_mountinfo(MOUNTS)

    assert len(mounts) == 4
    found = mount_of("/with blank/file", mounts)
    assert found is not None
    assert (found.point, found.is_read_only) == ("/with blank", True)
    other = mount_of("/device", mounts)
    assert other is not None
    assert other.point == "/"
    assert mount_of("/x", ()) is None


def cgroup(
    memory_bytes: int | None = 512 * MEBIBYTE,
    cpu_cores: float | None = 1.0,
    processes: int | None = 128,
    policy: Policy = POLICY,
    *,
    is_shared: bool = False,
) -> Finding:
    """Return the finding on a cgroup with these limits."""
    return check_cgroup(
        policy,
        memory_bytes=memory_bytes,
        cpu_cores=cpu_cores,
        processes=processes,
        is_shared=is_shared,
        where="v2",
    )


def test_a_cgroup_with_all_limits_is_in_force() -> None:
    """The kernel rounds, and tighter is as good."""
    assert cgroup().verdict is Verdict.IN_FORCE
    assert cgroup().actual == "memory 512 MiB, cores 1, processes 128"
    assert cgroup(cpu_cores=1.0001, memory_bytes=256 * MEBIBYTE).verdict is Verdict.IN_FORCE


def test_a_limit_that_is_loose_or_not_there_makes_it_weaker() -> None:
    """Each of the three is a way to bring the machine down."""
    assert cgroup(processes=None).verdict is Verdict.WEAKER
    assert "processes not limited" in cgroup(processes=None).actual
    assert cgroup(memory_bytes=1024 * MEBIBYTE).verdict is Verdict.WEAKER
    assert cgroup(None, None, None).verdict is Verdict.MISSING


def test_where_the_host_is_in_it_too_there_is_room_for_its_threads() -> None:
    """A container has one limit for both; the manifests give it that much more."""
    limit = 128 + HOST_PROCESSES

    assert cgroup(processes=limit, is_shared=True).verdict is Verdict.IN_FORCE
    assert cgroup(processes=limit + 2, is_shared=True).verdict is Verdict.WEAKER
    assert cgroup(processes=limit).verdict is Verdict.WEAKER


def test_limits_that_are_not_asked_for_are_not_missed() -> None:
    """Null in config.yaml."""
    some = Policy(limits=Limits(memory_bytes=None, cpu_cores=None))
    none = Policy(limits=Limits(memory_bytes=None, cpu_cores=None, processes=None))

    assert cgroup(None, None, 128, some).verdict is Verdict.IN_FORCE
    assert cgroup(None, None, None, none).verdict is Verdict.NOT_ASKED_FOR


def test_the_hosts_memory() -> None:
    """Landlock keeps the worker from it; the flag keeps everybody else of the user."""
    assert check_host_memory(POLICY, is_dumpable=False).verdict is Verdict.IN_FORCE
    weaker = check_host_memory(POLICY, is_dumpable=True)
    assert (weaker.verdict, weaker.severity) == (Verdict.WEAKER, Severity.WARNING)
    unknown = check_host_memory(POLICY, is_dumpable=None)
    assert (unknown.verdict, unknown.severity) == (Verdict.UNKNOWN, Severity.WARNING)


@pytest.mark.parametrize(
    ("is_present", "writable", "is_container", "verdict", "severity"),
    [
        (False, "", True, Verdict.IN_FORCE, Severity.CRITICAL),
        (True, "", True, Verdict.IN_FORCE, Severity.CRITICAL),
        (True, "can be changed", True, Verdict.WEAKER, Severity.WARNING),
        (True, "can be changed", False, Verdict.WEAKER, Severity.INFO),
    ],
)
def test_the_vault(
    is_present: bool, writable: str, is_container: bool, verdict: Verdict, severity: Severity
) -> None:
    """In a container somebody mounts it, and can do so read-only."""
    finding = check_vault(
        POLICY, is_present=is_present, writable=writable, is_container=is_container
    )

    assert (finding.verdict, finding.severity) == (verdict, severity)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/agent", True),
        ("/agent/code", True),
        ("/agent/runtime", False),
        ("/agent/runtime/x", False),
        ("/agent/runtime/cache/x", True),
        ("/agents", False),
        ("/srv", False),
    ],
)
def test_what_a_policy_gives(path: str, expected: bool) -> None:
    """A canary in a folder that may be read would sing for nothing."""
    policy = Policy(read=("/agent",), write=("/agent/runtime/cache",), hidden=("/agent/runtime",))

    assert is_given(path, policy) is expected

"""What /proc says of a confined process: `kagent_sdk.sandbox.audit.process`."""

from __future__ import annotations

import pytest

from kagent_sdk.sandbox.audit.process import (
    check_limits,
    check_status,
    count_cores,
    parse_limits,
    parse_status,
)
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Limits, Policy

STATUS = """\
Name:\tpython
Uid:\t1000\t1000\t1000\t1000
Gid:\t1000\t1000\t1000\t1000
Groups:\t
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
Cpus_allowed_list:\t0
"""

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max file size             unlimited            unlimited            bytes
Max data size             1073741824           1073741824           bytes
Max core file size        1                    1                    bytes
Max processes             140                  140                  processes
Max open files            1024                 1024                 files
"""

ROOT = STATUS.replace("1000", "0")
POWER = "CapEff:\t000001ffffffffff"


def status(text: str, policy: Policy = Policy(user=1000)) -> dict[Control, Finding]:  # noqa: B008 - frozen
    """Return the findings on a status by control."""
    return {one.control: one for one in check_status(policy, text, where="status")}


def limits(
    text: str = LIMITS,
    *,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    core_pattern: str = "core",
    is_dumpable: bool = True,
) -> dict[Control, Finding]:
    """Return the findings on limits by control."""
    found = check_limits(
        policy, text, core_pattern=core_pattern, is_dumpable=is_dumpable, where="limits"
    )
    return {one.control: one for one in found}


def test_a_confined_process_is_in_force() -> None:
    """Nothing of it is anybody's business."""
    assert {one.verdict for one in status(STATUS).values()} == {Verdict.IN_FORCE}
    assert {one.verdict for one in limits().values()} == {Verdict.IN_FORCE}


def test_what_cannot_be_read_says_nothing() -> None:
    """The process has ended between two looks."""
    assert check_status(Policy(), "", where="") == ()
    assert check_limits(Policy(), "", core_pattern="", is_dumpable=True, where="") == ()


@pytest.mark.parametrize(
    ("text", "verdict", "severity", "actual"),
    [
        (ROOT, Verdict.WEAKER, Severity.WARNING, "root without capabilities"),
        (
            ROOT.replace("CapEff:\t0000000000000000", POWER),
            Verdict.MISSING,
            Severity.CRITICAL,
            "root",
        ),
        (
            STATUS.replace("Uid:\t1000\t1000", "Uid:\t1000\t1001"),
            Verdict.WEAKER,
            Severity.CRITICAL,
            "user 1000/1001, group 1000",
        ),
        (
            STATUS.replace("Groups:\t", "Groups:\t0 27"),
            Verdict.WEAKER,
            Severity.WARNING,
            "user 1000, in the group of root",
        ),
    ],
)
def test_a_user_with_more_power_is_told(
    text: str, verdict: Verdict, severity: Severity, actual: str
) -> None:
    """Root that keeps its capabilities is another thing than root without."""
    row = status(text)[Control.USER]

    assert (row.verdict, row.severity, row.actual) == (verdict, severity, actual)


def test_any_user_but_root_will_do_when_none_is_named() -> None:
    """A developer's agent runs as the developer."""
    text = STATUS.replace("1000", "501")

    assert status(text, Policy())[Control.USER].verdict is Verdict.IN_FORCE
    assert status(text)[Control.USER].verdict is Verdict.WEAKER
    assert status("Name:\tx", Policy())[Control.USER].actual == "user unknown, group unknown"


def test_new_privileges_are_found() -> None:
    """One set-user-ID program would be enough."""
    row = status(STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"))[Control.NO_NEW_PRIVILEGES]

    assert row.verdict is Verdict.MISSING


@pytest.mark.parametrize("name", ["CapInh", "CapPrm", "CapEff", "CapAmb"])
def test_each_set_of_capabilities_is_looked_at(name: str) -> None:
    """An ambient capability survives every exec."""
    text = STATUS.replace(f"{name}:\t0000000000000000", f"{name}:\t0000000000000400")
    row = status(text)[Control.CAPABILITIES]

    assert row.verdict is Verdict.MISSING
    assert row.actual.endswith("set")


def test_a_full_bounding_set_is_barred_by_no_new_privileges() -> None:
    """A user without capabilities cannot empty it, and gets nothing out of it."""
    full = STATUS.replace("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff")
    row = status(full)[Control.CAPABILITIES]

    assert row.verdict is Verdict.IN_FORCE
    assert "barred" in row.actual
    weaker = status(full.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"))[Control.CAPABILITIES]
    assert weaker.verdict is Verdict.WEAKER


def test_a_filter_is_counted() -> None:
    """Kernels before 5.9 do not tell how many there are."""
    assert status(STATUS)[Control.SYSCALLS].actual == "1 filter"
    two = STATUS.replace("Seccomp_filters:\t1", "Seccomp_filters:\t2")
    assert status(two)[Control.SYSCALLS].actual == "2 filters"
    old = STATUS.replace("Seccomp_filters:\t1\n", "")
    assert status(old)[Control.SYSCALLS].actual == "a filter"
    none = status(STATUS.replace("Seccomp:\t2", "Seccomp:\t0"))[Control.SYSCALLS]
    assert (none.verdict, none.actual) == (Verdict.MISSING, "no filter")


def test_cores_are_counted() -> None:
    """A share of a core is a whole one for affinity."""
    four = STATUS.replace("Cpus_allowed_list:\t0", "Cpus_allowed_list:\t0-2,5")

    assert status(STATUS)[Control.LIMITS].actual == "1 core"
    row = status(four)[Control.LIMITS]
    assert (row.verdict, row.actual) == (Verdict.WEAKER, "4 cores")
    assert status(four, Policy(limits=Limits(cpu_cores=3.5)))[Control.LIMITS].holds
    assert Control.LIMITS not in status(four, Policy(limits=Limits(cpu_cores=None)))


@pytest.mark.parametrize(
    ("text", "count"), [("0", 1), ("0-3,8", 5), ("", 0), ("2-2", 1), ("none", 0)]
)
def test_a_list_of_cores_is_read(text: str, count: int) -> None:
    """As the kernel writes it (cpuset(7))."""
    assert count_cores(text) == count


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (
            "Max data size             536870912            unlimited            bytes",
            "memory_bytes",
        ),
        ("Max open files            1024                 1048576              files", "open_files"),
        (
            "Max processes             140                  unlimited            processes",
            "processes",
        ),
    ],
)
def test_a_loose_hard_limit_is_found(line: str, field: str) -> None:
    """A process may raise its soft limits as it likes."""
    name = line[:26]
    text = "\n".join(line if old.startswith(name) else old for old in LIMITS.splitlines())
    row = limits(text)[Control.LIMITS]

    assert row.verdict is Verdict.WEAKER
    assert row.actual == f"not limited as asked: {field}"


def test_limits_that_nobody_asked_for_are_not_missed() -> None:
    """Null leaves a limit as it is."""
    free = Limits(memory_bytes=None, processes=None, open_files=None)

    assert limits("Limit\nMax cpu time  x", policy=Policy(limits=free)) == {}
    loose = LIMITS.replace("536870912", "unlimited")
    assert limits(loose, policy=Policy(limits=free))[Control.LIMITS].holds


@pytest.mark.parametrize(
    ("core", "pattern", "is_dumpable", "verdict"),
    [
        ("1", "core", True, Verdict.IN_FORCE),
        ("0", "core", True, Verdict.IN_FORCE),
        ("1", "|/usr/bin/handler %p", True, Verdict.IN_FORCE),
        ("0", "|/usr/bin/handler %p", True, Verdict.WEAKER),
        ("0", "@/run/handler.sock", True, Verdict.WEAKER),
        ("unlimited", "core", True, Verdict.MISSING),
        ("unlimited", "core", False, Verdict.IN_FORCE),
    ],
)
def test_images_of_memory(core: str, pattern: str, is_dumpable: bool, verdict: Verdict) -> None:
    """A limit of 0 stops files, and not the machine's crash reporter."""
    text = "\n".join(
        f"Max core file size        {core:<21}{core:<21}bytes" if "core file" in line else line
        for line in LIMITS.splitlines()
    )
    row = limits(text, core_pattern=pattern, is_dumpable=is_dumpable)[Control.NO_CORE_DUMPS]

    assert row.verdict is verdict


def test_texts_of_proc_are_read() -> None:
    """Names have blanks in them, and values may be lists."""
    assert parse_status("Uid:\t1\t2\nno colon\n")["Uid"] == "1\t2"
    assert parse_limits(LIMITS)["Max open files"] == (1024, 1024)
    assert parse_limits(LIMITS)["Max cpu time"] == (None, None)
    assert parse_limits("Limit\nshort\n") == {}

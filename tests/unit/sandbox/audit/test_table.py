"""One finding for each control: `kagent_sdk.sandbox.audit.table`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kagent_sdk.sandbox.audit.table import (
    NOT_LOOKED_AT,
    SEVERITIES,
    WAYS_OUT,
    check_egress,
    combine,
    expect,
    find_critical,
    find_missing,
    findings_elsewhere,
    findings_when_off,
    observe,
)
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Destination, Isolation, Limits, Mode, Network, Policy

POLICY = Policy()


def look(control: Control, verdict: Verdict, actual: str = "", evidence: str = "seen") -> Finding:
    """Return what one look has shown."""
    return observe(control, POLICY, verdict, actual, evidence)


def table(*findings: Finding, policy: Policy = POLICY) -> dict[Control, Finding]:
    """Return the combined findings by control."""
    return {finding.control: finding for finding in combine(policy, findings)}


def test_every_control_has_a_row() -> None:
    """What nobody looked at must not pass for something that holds."""
    rows = combine(POLICY, ())

    assert [row.control for row in rows] == list(Control)
    assert set(SEVERITIES) == set(WAYS_OUT) == set(Control)
    assert all(expect(control, POLICY) for control in Control)
    assert {row.verdict for row in rows} == {Verdict.UNKNOWN, Verdict.NOT_ASKED_FOR}


def test_the_worst_word_counts() -> None:
    """A filter that was installed and lets the canary through is no filter."""
    row = table(
        look(Control.SYSCALLS, Verdict.IN_FORCE, "a filter", "seccomp(2)"),
        look(Control.SYSCALLS, Verdict.MISSING, "could make a user namespace", "unshare"),
        look(Control.SYSCALLS, Verdict.MISSING, "could trace", "ptrace"),
    )[Control.SYSCALLS]

    assert row.verdict is Verdict.MISSING
    assert row.actual == "could make a user namespace; could trace"
    assert row.evidence == "unshare, ptrace"
    assert row.way_out == WAYS_OUT[Control.SYSCALLS]


def test_evidence_of_all_that_agree_is_told_once() -> None:
    """The table says what was looked at, and not twice the same."""
    row = table(
        look(Control.FILES, Verdict.IN_FORCE, "44 paths", "Landlock ABI 7"),
        look(Control.FILES, Verdict.IN_FORCE, "44 paths", "Landlock ABI 7"),
        look(Control.FILES, Verdict.IN_FORCE, "", "open: EACCES"),
    )[Control.FILES]

    assert row.actual == "44 paths"
    assert row.evidence == "Landlock ABI 7, open: EACCES"
    assert row.way_out == ""


def test_a_look_without_words_holds() -> None:
    """Canaries alone say nothing but that they were refused."""
    row = table(look(Control.EGRESS, Verdict.IN_FORCE, "", "connect: EPERM"))[Control.EGRESS]

    assert row.actual == "holds"


def test_what_could_not_be_found_out_counts_only_alone() -> None:
    """An attempt that fails outside too proves nothing, and disproves nothing."""
    unknown = look(Control.SYSCALLS, Verdict.UNKNOWN, "?", "unshare: EPERM, outside too")
    known = look(Control.SYSCALLS, Verdict.IN_FORCE, "a filter")

    assert table(unknown, known)[Control.SYSCALLS].verdict is Verdict.IN_FORCE
    assert table(unknown)[Control.SYSCALLS].verdict is Verdict.UNKNOWN


def test_a_table_can_be_combined_again() -> None:
    """The host adds what it sees of the workers to what the probe has found out."""
    probed = combine(POLICY, (look(Control.FILES, Verdict.IN_FORCE, "44 paths"),))
    added = look(Control.READ_ONLY_ROOT, Verdict.IN_FORCE, "read-only")
    rows = table(*probed, added)

    assert rows[Control.READ_ONLY_ROOT].actual == "read-only"
    assert rows[Control.FILES] == probed[list(Control).index(Control.FILES)]
    assert rows[Control.VAULT].actual == NOT_LOOKED_AT


def test_the_most_severe_of_the_worst_counts() -> None:
    """A warning beside something critical does not soften it."""
    mild = replace(look(Control.USER, Verdict.MISSING, "root"), severity=Severity.WARNING)

    assert table(mild)[Control.USER].severity is Severity.WARNING
    assert (
        table(mild, look(Control.USER, Verdict.MISSING))[Control.USER].severity is Severity.CRITICAL
    )


def test_a_cgroup_makes_up_for_limits_of_single_processes() -> None:
    """The kernel does not count the processes of root, but the cgroup does."""
    weaker = look(Control.LIMITS, Verdict.WEAKER, "processes: not counted")
    cgroup = look(Control.CGROUP, Verdict.IN_FORCE, "memory 512 MiB")

    alone, both = table(weaker)[Control.LIMITS], table(weaker, cgroup)[Control.LIMITS]
    assert alone.severity is Severity.WARNING
    assert alone.way_out
    assert both.severity is Severity.INFO
    assert both.way_out == ""
    assert both.actual == "processes: not counted; the cgroup does"


def test_what_the_policy_does_without_is_not_asked_for() -> None:
    """Namespaces that nobody wanted are nothing to warn of."""
    rows = table(
        look(Control.EGRESS, Verdict.MISSING, "could send"),
        policy=Policy(network=Network(external=True)),
    )

    assert rows[Control.NAMESPACES].verdict is Verdict.NOT_ASKED_FOR
    assert rows[Control.EGRESS].verdict is Verdict.NOT_ASKED_FOR
    assert rows[Control.EGRESS].holds
    bwrap = table(policy=Policy(isolation=Isolation.BWRAP))
    assert bwrap[Control.NAMESPACES].verdict is Verdict.UNKNOWN


def test_a_requirement_means_in_force() -> None:
    """Who requires namespaces is not served by a policy without them."""
    rows = combine(POLICY, (look(Control.FILES, Verdict.IN_FORCE),))
    missing = find_missing(("namespaces", "files", "vault", "namespaces"), rows)

    assert [finding.control for finding in missing] == [Control.NAMESPACES, Control.VAULT]
    assert missing[0].way_out == "set worker.isolation: bwrap"
    assert missing[1].verdict is Verdict.UNKNOWN


def test_what_is_critical_and_open_is_found() -> None:
    """A script goes by the exit code alone."""
    rows = (
        look(Control.FILES, Verdict.WEAKER),
        look(Control.SYSCALLS, Verdict.IN_FORCE),
        look(Control.CGROUP, Verdict.MISSING),
    )

    assert find_critical(rows) == rows[:1]


def test_a_sandbox_that_is_off_is_missing() -> None:
    """It was switched off on purpose, and still nothing is in force."""
    policy = Policy(mode=Mode.OFF)
    rows = findings_when_off(policy)

    assert {row.verdict for row in rows} == {Verdict.MISSING}
    assert {row.way_out for row in rows} == {"set sandbox.mode: enforce"}
    assert Control.FILES in {row.control for row in rows}
    assert Control.VAULT not in {row.control for row in rows}


def test_other_systems_are_told_the_truth() -> None:
    """Agents run on macOS; what the audit says must not sound as if they were confined there."""
    rows = {row.control: row for row in combine(POLICY, findings_elsewhere(POLICY, "macOS"))}

    assert rows[Control.FILES].verdict is Verdict.MISSING
    assert rows[Control.FILES].evidence == "macOS has no such means"
    assert rows[Control.NAMESPACES].verdict is Verdict.NOT_ASKED_FOR
    assert Verdict.IN_FORCE not in {row.verdict for row in rows.values()}


def test_a_proxy_on_the_loopback_leaves_a_gap() -> None:
    """The kernel knows ports and no hosts: the proxy's number is open everywhere."""
    network = Network(allow=(Destination("example.com", 443),), connect=(4321,))
    (gap,) = check_egress(Policy(network=network))

    assert gap.verdict is Verdict.WEAKER
    assert gap.severity is Severity.WARNING
    assert "4321" in gap.actual
    assert gap.expected == "none but the proxy"
    assert check_egress(Policy(network=network, isolation=Isolation.BWRAP)) == ()
    assert check_egress(POLICY) == ()


def test_without_a_route_out_the_gap_is_none() -> None:
    """An engine's internal network: that number leads to neighbours alone, which the table says."""
    network = Network(allow=(Destination("example.com", 443),), connect=(4321,))
    (held,) = check_egress(Policy(network=network), has_way_out=False)

    assert held.verdict is Verdict.IN_FORCE
    assert "4321" in held.actual


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(), "connect to none, listen on none"),
        (
            Policy(network=Network(external=True, listen=(80, 81))),
            "connect to any, listen on 80, 81",
        ),
        (Policy(network=Network(connect=(9,))), "connect to 9, listen on none"),
    ],
)
def test_ports_are_told(policy: Policy, words: str) -> None:
    """Who reads the table compares the numbers with config.yaml."""
    assert expect(Control.TCP_PORTS, policy) == words


def test_the_user_is_told() -> None:
    """1000 when root starts it, and anybody but root else."""
    assert expect(Control.USER, Policy(user=1000)) == "user and group 1000"
    assert expect(Control.USER, Policy(limits=Limits())) == "not root"

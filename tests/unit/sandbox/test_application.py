"""Tests of what `kagent_sdk.sandbox.application` decides; what it does is in test_confine.py."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kagent_sdk.sandbox import application
from kagent_sdk.sandbox.application import MISSING, FailureError, apply
from kagent_sdk.sandbox.confine import confine
from kagent_sdk.sandbox.controls import Control, Severity, Verdict
from kagent_sdk.sandbox.plan import make_plan
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy


def plan_of(policy: Policy, *, abi: int = 7) -> dict[str, Any]:
    """Return a plan as it is after the step on files."""
    return make_plan(policy) | {"abi": abi}


def test_the_words_are_those_of_the_audit() -> None:
    """The hot path does not import the classes: their values must not drift apart."""
    rows = apply(make_plan(Policy(mode=Mode.OFF)))

    assert {Control(row[0]) for row in rows} >= {Control.FILES, Control.SYSCALLS, Control.USER}
    assert {Verdict(row[1]) for row in rows} == {Verdict.MISSING}
    assert {Severity(row[5]) for row in rows} == {Severity.CRITICAL}
    for word in ("IN_FORCE", "WEAKER", "MISSING", "NOT_ASKED_FOR"):
        assert getattr(application, word) == Verdict[word]
    for word in ("CRITICAL", "WARNING"):
        assert getattr(application, word) == Severity[word]


def test_off_is_a_finding_for_every_control() -> None:
    """The audit never pretends."""
    findings = confine(Policy(mode=Mode.OFF))

    assert {finding.actual for finding in findings} == {"off"}
    assert not any(finding.holds for finding in findings)


def test_a_system_without_these_kernels_runs_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Agents are developed on macOS; nothing is in force there, and nothing says it were."""
    monkeypatch.setattr(sys, "platform", "darwin")
    findings = confine(Policy())

    assert {finding.verdict for finding in findings} == {Verdict.MISSING}
    assert {finding.actual for finding in findings} == {"not on darwin"}


def test_what_is_required_fails_a_start_in_every_mode() -> None:
    """``sandbox.require`` is for those who would rather not start."""
    with pytest.raises(FailureError) as caught:
        apply(make_plan(Policy(mode=Mode.OFF, require=("files",))))

    assert caught.value.control == "files"
    assert caught.value.message == "required, and missing: off"


@pytest.mark.parametrize(
    ("abi", "isolation", "ports", "scopes"),
    [
        (7, Isolation.PROCESS, Verdict.IN_FORCE, Verdict.IN_FORCE),
        (6, Isolation.PROCESS, Verdict.IN_FORCE, Verdict.IN_FORCE),
        (5, Isolation.PROCESS, Verdict.IN_FORCE, Verdict.WEAKER),
        (4, Isolation.PROCESS, Verdict.IN_FORCE, Verdict.WEAKER),
        (3, Isolation.PROCESS, Verdict.MISSING, Verdict.WEAKER),
        (3, Isolation.BWRAP, Verdict.IN_FORCE, Verdict.IN_FORCE),
    ],
)
def test_an_older_kernel_is_told_of(
    abi: int, isolation: Isolation, ports: Verdict, scopes: Verdict
) -> None:
    """Landlock learnt ports with ABI 4 and scopes with ABI 6; namespaces do both."""
    plan = plan_of(Policy(isolation=isolation), abi=abi)
    found = [application.judge_ports(plan), application.judge_scopes(plan)]

    assert [row[1] for row in found] == [ports, scopes]
    assert all(row[6] for row in found if row[1] in {MISSING, Verdict.WEAKER})


@pytest.mark.parametrize(
    ("abi", "mode", "isolation", "expected"),
    [
        (7, "enforce", "process", ""),
        (4, "enforce", "process", ""),
        (3, "enforce", "process", "Landlock ABI 3, and 4 is needed"),
        (3, "report", "process", ""),
        (3, "enforce", "bwrap", ""),
        (0, "enforce", "process", "no Landlock, and 4 is needed"),
        (0, "report", "process", "no Landlock, and 4 is needed"),
        (0, "enforce", "bwrap", "no Landlock, and 4 is needed"),
    ],
)
def test_a_kernel_that_is_too_old_is_refused(
    abi: int, mode: str, isolation: str, expected: str
) -> None:
    """Below ABI 4 there are no ports; without Landlock there is nothing to apply."""
    assert application.find_shortage(abi, mode, isolation) == expected

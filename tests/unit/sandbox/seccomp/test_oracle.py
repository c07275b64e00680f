"""Our filters against those that libseccomp makes of the same policy, call by call.

The oracle is built of the OCI profile as container engines do it, so it judges the profile too.
"""

from __future__ import annotations

import tempfile
from typing import Any

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.seccomp.bpf import compile_filter
from kagent_sdk.sandbox.seccomp.oci import oci_profile
from kagent_sdk.sandbox.seccomp.rules import rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES
from tests.unit.sandbox.seccomp.machine import (
    ABSENT,
    AUDIT_VALUES,
    KILLED,
    REFUSED,
    Call,
    Machine,
    arguments_around,
)
from tests.unit.sandbox.seccomp.policies import POLICIES

HIGHEST = 600
X32 = 0x40000000

OPERATORS = {"SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ}


def build_oracle(profile: dict[str, Any], architecture: str) -> Machine:
    """Have libseccomp compile a profile for one architecture, as runc and crun would."""
    oracle = pyseccomp.SyscallFilter(pyseccomp.ERRNO(profile["defaultErrnoRet"]))
    audit_value = AUDIT_VALUES[architecture]
    if pyseccomp.system_arch() != audit_value:
        oracle.add_arch(audit_value)
        oracle.remove_arch(pyseccomp.Arch.NATIVE)
    oracle.set_attr(pyseccomp.Attr.ACT_BADARCH, KILLED)
    oracle.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a search by halves: a quicker test
    for entry in profile["syscalls"]:
        arguments = [
            pyseccomp.Arg(each["index"], OPERATORS[each["op"]], each["value"], each["valueTwo"])
            for each in entry.get("args", ())
        ]
        action = pyseccomp.ALLOW
        if entry["action"] == "SCMP_ACT_ERRNO":
            action = pyseccomp.ERRNO(entry["errnoRet"])
        for name in entry["names"]:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) != -1:
                oracle.add_rule(action, name, *arguments)
    with tempfile.TemporaryFile() as file:
        oracle.export_bpf(file)
        file.seek(0)
        return Machine(file.read())


@pytest.fixture(scope="module", params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    """Return each of the policies."""
    return POLICIES[request.param]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    """Return each of the architectures."""
    return str(request.param)


@pytest.fixture(scope="module")
def oracle(policy: Policy, architecture: str) -> Machine:
    """Return libseccomp's program for the policy."""
    return build_oracle(oci_profile(policy), architecture)


@pytest.fixture(scope="module")
def ours(policy: Policy, architecture: str) -> Machine:
    """Return our program for the policy."""
    return Machine(compile_filter(rules_for(policy), architecture))


def known_to_both(architecture: str) -> dict[int, str]:
    """Return the syscalls that libseccomp has a name for, by number."""
    audit_value = AUDIT_VALUES[architecture]
    return {
        number: name
        for name, number in ARCHITECTURES[architecture].numbers().items()
        if pyseccomp.resolve_syscall(audit_value, name) == number
    }


def test_verdicts_are_those_of_libseccomp(
    policy: Policy, architecture: str, ours: Machine, oracle: Machine
) -> None:
    """Two compilers that share no line agree on every syscall and around every condition."""
    audit_value = AUDIT_VALUES[architecture]
    names = known_to_both(architecture)
    rules = rules_for(policy)
    assert len(names) > 300
    for number, name in names.items():
        conditions = rules.allowed_if.get(name, ()) + rules.refused_if.get(name, ())
        for arguments in arguments_around(conditions):
            call = Call(audit_value, number, arguments)
            assert ours.run(call) == oracle.run(call), (name, arguments)


def test_what_has_no_name_is_refused_by_both(
    architecture: str, ours: Machine, oracle: Machine
) -> None:
    """Of numbers without a name, libseccomp can only say the default of the profile."""
    names = known_to_both(architecture)
    unnamed = [number for number in range(HIGHEST) if number not in names]
    newer = set(ARCHITECTURES[architecture].numbers().values()) - names.keys()
    for number in unnamed:
        call = Call(AUDIT_VALUES[architecture], number)
        assert oracle.run(call) == REFUSED
        assert ours.run(call) == ABSENT or number in newer


@pytest.mark.parametrize("base", [X32, X32 + 512, 2**31 - HIGHEST])
def test_x32_is_refused_by_both(
    base: int, architecture: str, ours: Machine, oracle: Machine
) -> None:
    """The other kills what calls x32; to ours it is what it is on most kernels: not there."""
    for number in range(base, base + HIGHEST):
        call = Call(AUDIT_VALUES[architecture], number)
        assert ours.run(call) == ABSENT
        assert oracle.run(call) == (KILLED if architecture == "x86_64" else REFUSED)


def test_foreign_architectures_kill_in_both(
    architecture: str, ours: Machine, oracle: Machine
) -> None:
    """The numbers of another architecture mean other syscalls."""
    foreign = {*AUDIT_VALUES.values(), 0x40000003, 0x40000028, 0xC00000F3, 0}
    for audit_value in foreign - {AUDIT_VALUES[architecture]}:
        for number in range(HIGHEST):
            call = Call(audit_value, number)
            assert ours.run(call) == oracle.run(call) == KILLED


class TestAnyArguments:
    """Also arguments that no list of cases thought of."""

    @pytest.fixture(scope="class")
    @staticmethod
    def pairs() -> list[tuple[str, Policy, Machine, Machine]]:
        """Return both programs of all policies and architectures."""
        return [
            (
                architecture,
                policy,
                Machine(compile_filter(rules_for(policy), architecture)),
                build_oracle(oci_profile(policy), architecture),
            )
            for policy in POLICIES.values()
            for architecture in ARCHITECTURES
        ]

    @given(data=st.data())
    def test_verdicts_are_those_of_libseccomp(
        self, data: st.DataObject, pairs: list[tuple[str, Policy, Machine, Machine]]
    ) -> None:
        """Small numbers are what conditions are about; large ones fill whole registers."""
        value = st.one_of(
            st.integers(0, 40), st.integers(0, 2**64 - 1), st.sampled_from((0x5412, 0x8902, 2**29))
        )
        arguments = data.draw(st.tuples(*[value] * 6))
        for architecture, policy, ours, oracle in pairs:
            rules = rules_for(policy)
            for number, name in known_to_both(architecture).items():
                if name in rules.allowed_if or name in rules.refused_if:
                    call = Call(AUDIT_VALUES[architecture], number, arguments)
                    assert ours.run(call) == oracle.run(call), (name, arguments)

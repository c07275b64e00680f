"""Unit tests of kagent_sdk.sandbox.seccomp.oci; that profiles are true is up to test_oracle."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.sandbox.policy import Network, Policy
from kagent_sdk.sandbox.seccomp.oci import none_of, oci_profile
from kagent_sdk.sandbox.seccomp.rules import Alternatives
from tests.unit.sandbox.seccomp.machine import arguments_around, holds
from tests.unit.sandbox.seccomp.policies import POLICIES


def names_allowed(policy: Policy, *, with_host: bool = False) -> set[str]:
    """Return the syscalls that a profile lets through, at least with some arguments."""
    return {
        name
        for entry in oci_profile(policy, with_host=with_host)["syscalls"]
        if entry["action"] == "SCMP_ACT_ALLOW"
        for name in entry["names"]
    }


def test_a_profile_is_what_engines_read() -> None:
    """A key that is misspelt is ignored by engines, and what it should refuse is not refused."""
    profile = json.loads(json.dumps(oci_profile(Policy())))

    assert profile.keys() == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == 1
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert {entry["action"] for entry in profile["syscalls"]} == {
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
    }
    clone = next(entry for entry in profile["syscalls"] if entry["names"] == ["clone"])
    assert clone["args"] == [
        {"index": 0, "value": 0x7E028000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    ]
    absent = profile["syscalls"][-1]
    assert absent["errnoRet"] == 38
    assert "clone3" in absent["names"]


def test_no_argument_is_compared_twice_in_an_entry() -> None:
    """Engines make of such an entry two, either of which is enough."""
    for policy in POLICIES.values():
        for entry in oci_profile(policy)["syscalls"]:
            indexes = [argument["index"] for argument in entry.get("args", ())]

            assert len(indexes) == len(set(indexes))


def test_a_profile_can_be_read_by_people() -> None:
    """What is not refused is spelt out bit by bit, which must not get out of hand."""
    for policy in POLICIES.values():
        assert len(oci_profile(policy)["syscalls"]) < 300


def test_a_profile_for_the_host_too_lets_it_work() -> None:
    """In a container the host listens, resolves names, and binds the worker to its cores."""
    policy = Policy(network=Network())
    of_host = names_allowed(policy, with_host=True)

    assert not names_allowed(policy) & {"listen", "socket", "sched_setaffinity"}
    assert of_host >= {"listen", "socket", "sched_setaffinity", "seccomp"}
    assert not of_host & {"ptrace", "mount", "bpf", "unshare"}


words = st.one_of(st.integers(0, 7), st.just(2**32 - 1), st.integers(0, 2**64 - 1))
conditions = st.tuples(st.integers(0, 1), words, words).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] & drawn[2])
)
alternatives = st.lists(st.lists(conditions, max_size=2).map(tuple), max_size=2).map(tuple)


@given(alternatives)
def test_none_of_is_the_opposite(refused: Alternatives) -> None:
    """What is not refused is allowed, and the other way round, for every argument."""
    spelt = none_of(refused)
    for arguments in arguments_around(refused):
        assert holds(spelt, arguments) is not holds(refused, arguments)

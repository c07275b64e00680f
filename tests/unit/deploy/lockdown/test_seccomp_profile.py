"""A profile is as tight as its widest rule: what it lets through beyond ours is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kagent_sdk.deploy.lockdown.seccomp_profile import compare_profile
from kagent_sdk.deploy.seccomp import profile_text
from kagent_sdk.errors import DeployError
from tests.unit.deploy.lockdown.manifests import OPEN, PROXIED, deployment

ALLOW = {"action": "SCMP_ACT_ALLOW"}


def changed(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """Return what is found in our profile after a change."""
    wanted = deployment(PROXIED)
    profile = json.loads(profile_text(wanted))
    change(profile)
    return [loosening.found for loosening in compare_profile(json.dumps(profile), wanted)]


def test_our_own_profile_loosens_nothing() -> None:
    """It is the measure."""
    assert changed(lambda profile: profile.update()) == []


def test_a_tighter_profile_loosens_nothing() -> None:
    """Whoever takes more away is right."""
    assert changed(lambda profile: profile["syscalls"][0]["names"].remove("read")) == []
    assert (
        changed(
            lambda profile: profile["syscalls"].append(
                {"names": ["ptrace"], "action": "SCMP_ACT_KILL"}
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda p: p.update(defaultAction="SCMP_ACT_ALLOW"), "SCMP_ACT_ALLOW"),
        (lambda p: p.update(defaultAction="SCMP_ACT_LOG"), "SCMP_ACT_LOG"),
        (lambda p: p["syscalls"].append({"names": ["ptrace", "bpf"], **ALLOW}), "SCMP_ACT_ALLOW: ptrace, bpf"),
        (lambda p: p["syscalls"].append({"name": "keyctl", "action": "SCMP_ACT_TRACE"}), "SCMP_ACT_TRACE: keyctl"),
        (lambda p: p["syscalls"].append({"names": ["unshare"], "args": [], "includes": {"caps": ["X"]}, **ALLOW}), "SCMP_ACT_ALLOW: unshare"),
        (lambda p: p["syscalls"].append({"names": ["socket"], **ALLOW}), "SCMP_ACT_ALLOW with other arguments: socket"),
        (lambda p: p["syscalls"].append({"names": [f"new{n}" for n in range(20)], **ALLOW}), "SCMP_ACT_ALLOW: new0, new1, new2, new3, new4, new5, new6, new7, new8, new9, new10, new11 and 8 more"),
        (lambda p: p["architectures"].append("SCMP_ARCH_X32"), "SCMP_ARCH_X32 too"),
        (lambda p: p.update(archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]), "SCMP_ARCH_X86 too"),
        (lambda p: p.update(listenerPath="/x"), "listenerPath"),
        (lambda p: p.update(flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    ],
)  # fmt: skip
def test_what_a_profile_lets_through_beyond_ours_is_found(
    change: Callable[[dict[str, Any]], object], found: str
) -> None:
    """One syscall of four hundred is enough for an escape."""
    assert found in changed(change)


def test_a_profile_may_stand_inside_a_bundle() -> None:
    """OCI's config.json has it under linux.seccomp."""
    wanted = deployment(PROXIED)
    profile = {"linux": {"seccomp": json.loads(profile_text(wanted))}}

    assert compare_profile(json.dumps(profile), wanted) == ()


def test_the_profile_of_one_policy_holds_for_another_with_the_same_host() -> None:
    """The host needs the network whatever the worker may do, so that one profile serves."""
    assert compare_profile(profile_text(deployment(OPEN)), deployment(PROXIED)) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: this is no JSON"),
        ("[" * 100_000, "this is no JSON"),
        ("[]", "no defaultAction"),
        ("{}", "no defaultAction"),
        (" " * (1024 * 1024 + 1), "over 1048576 bytes"),
        (json.dumps({"defaultAction": "x", "syscalls": [{}] * 20_001}), "more than 20000 rules"),
    ],
)
def test_what_is_no_profile_is_one_clear_error(text: str, message: str) -> None:
    """The message says what the file lacks."""
    with pytest.raises(DeployError, match=message):
        compare_profile(text, deployment(PROXIED))

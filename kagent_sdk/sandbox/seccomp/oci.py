"""Say to container engines what the filter of a process says to the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from errno import ENOSYS, EPERM
from functools import lru_cache
from typing import Any

from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.seccomp.rules import Alternatives, Conditions, Rules, rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES

_WORD_BITS = 64


def oci_profile(policy: Policy, *, with_host: bool = False) -> dict[str, Any]:
    """Return the seccomp profile of a policy, as JSON data (``linux.seccomp`` of OCI's config).

    It decides as the process's own filter does for every syscall that has a name in our tables;
    what is newer is EPERM, or ENOSYS where the engine sees to that itself, as runc does.

    Args:
        policy: what is allowed.
        with_host: the host runs in the container too, and puts the worker under its own filter:
            it listens, resolves names, talks to the engine, and binds the worker to its cores.
    """
    if not with_host:
        return profile_of(rules_for(policy))
    network = replace(policy.network, external=True, listen=(8080,), unix_sockets=True)
    rules = rules_for(replace(policy, network=network))
    return profile_of(
        Rules(
            allowed=rules.allowed | {"sched_setaffinity"},
            allowed_if=rules.allowed_if,
            refused_if=rules.refused_if,
            refused=rules.refused - {"sched_setaffinity"},
        )
    )


def profile_of(rules: Rules) -> dict[str, Any]:
    """Return the seccomp profile of rules, as JSON data."""
    named = rules.allowed | rules.refused | rules.allowed_if.keys() | rules.refused_if.keys()
    known = {name for of in ARCHITECTURES.values() for name in of.numbers()}
    alike: dict[Alternatives, list[str]] = {}
    for name, alternatives in sorted(rules.allowed_if.items()):
        alike.setdefault(alternatives, []).append(name)
    for name, alternatives in sorted(rules.refused_if.items()):
        alike.setdefault(none_of(alternatives), []).append(name)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": [f"SCMP_ARCH_{name.upper()}" for name in ARCHITECTURES],
        "syscalls": [
            {"names": sorted(rules.allowed), "action": "SCMP_ACT_ALLOW"},
            *(
                {"names": names, "action": "SCMP_ACT_ALLOW", "args": _arguments(conditions)}
                for alternatives, names in alike.items()
                for conditions in alternatives
            ),
            {"names": sorted(known - named), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        ],
    }


def _arguments(conditions: Conditions) -> list[dict[str, Any]]:
    return [
        {"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for argument, mask, value in conditions
    ]


# Thousands of combinations, and the same few for every policy.
@lru_cache(maxsize=16)
def none_of(alternatives: Alternatives) -> Alternatives:
    """Return the alternatives of which one holds when none of the given ones does.

    libseccomp knows no "else", and its "not equal" is about all 64 bits of a register. So what is
    not refused is spelt out bit by bit: the bits before are those of the refused value, and this
    one is not. Each argument is compared once, as engines want it.
    """
    spelt: list[Conditions] = [()]
    for refused in alternatives:
        spelt = [
            both
            for conditions in spelt
            for other in _failures(refused)
            if (both := _joined((*conditions, *other))) is not None
        ]
    return tuple(spelt)


def _failures(conditions: Conditions) -> Iterator[Conditions]:
    """Yield how conditions fail to hold together; no two of the ways at once."""
    for position, (argument, mask, value) in enumerate(conditions):
        seen = 0
        for bit in (1 << number for number in reversed(range(_WORD_BITS))):
            if mask & bit:
                seen |= bit
                yield (*conditions[:position], (argument, seen, (value & seen) ^ bit))


def _joined(conditions: Iterable[tuple[int, int, int]]) -> Conditions | None:
    """Return the same with one condition for each argument; None when they contradict."""
    joined: dict[int, tuple[int, int]] = {}
    for argument, mask, value in conditions:
        old_mask, old_value = joined.get(argument, (0, 0))
        if (old_value ^ value) & old_mask & mask:
            return None
        joined[argument] = old_mask | mask, old_value | value
    return tuple((argument, mask, value) for argument, (mask, value) in sorted(joined.items()))

"""Compare a seccomp profile for engines with the policy's own. Pure.

The format is that of OCI's ``linux.seccomp`` and of the engines
(https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp). What a rule allows
under a condition of the engine's own (``includes``: a capability, a kernel) counts as allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.data import at, items, mapping, numbered, shown, texts
from kagent_sdk.deploy.lockdown.documents import MAX_BYTES
from kagent_sdk.deploy.lockdown.loosening import Loosening, sort_loosenings
from kagent_sdk.errors import DeployError
from kagent_sdk.sandbox.seccomp.oci import oci_profile

REFUSING = frozenset(
    {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"}
)
"""Actions that keep a syscall from happening; all others may let it through."""

MAX_NAMES = 12
"""Of one finding."""

MAX_RULES = 20_000

Conditions = frozenset[tuple[Any, ...]]


def compare_profile(text: str, wanted: Deployment) -> tuple[Loosening, ...]:
    """Return what a profile allows that the policy's does not.

    Raises:
        DeployError: it is no profile.
    """
    profile, policy = _read(text), oci_profile(wanted.policy, with_host=True)
    ours = _allowed(policy)
    loosenings = list(_around(profile, frozenset(policy["architectures"])))
    for where, rule in numbered(profile.get("syscalls"), "syscalls"):
        if shown(rule.get("action")) not in REFUSING:
            loosenings += _rule(rule, ours, where)
    return sort_loosenings(loosenings)


def _read(text: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise DeployError(f"over {MAX_BYTES} bytes: this is no seccomp profile")
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as exc:
        line = getattr(exc, "lineno", 1)
        raise DeployError(f"line {line}: this is no JSON") from None
    inner = at(profile, "linux", "seccomp") if isinstance(profile, dict) else None
    profile = mapping(inner or profile)
    if "defaultAction" not in profile:
        raise DeployError("there is no defaultAction in it: this is no seccomp profile")
    if len(items(profile.get("syscalls"))) > MAX_RULES:
        raise DeployError(f"more than {MAX_RULES} rules")
    return profile


def _around(profile: dict[str, Any], architectures: frozenset[str]) -> Iterator[Loosening]:
    """Judge what stands around the rules."""
    action = shown(profile["defaultAction"])
    if action not in REFUSING:
        yield Loosening("syscalls", "SCMP_ACT_ERRNO", action, "defaultAction", "SCMP_ACT_ERRNO")
    named = texts(profile.get("architectures"))
    for entry in items(profile.get("archMap")):
        named += [*texts(at(entry, "architecture")), *texts(at(entry, "subArchitectures"))]
    for name in sorted(set(named) - architectures):
        text, wanted = f"{name} too", ", ".join(sorted(architectures))
        fix = "remove it: no program of the image is of that kind"
        yield Loosening("syscalls", wanted, text, "architectures", fix, "warning")
    for field in sorted(profile.keys() & {"listenerPath", "listenerMetadata"}):
        yield Loosening("syscalls", "nothing decides elsewhere", field, field, "remove it")
    if "SECCOMP_FILTER_FLAG_SPEC_ALLOW" in texts(profile.get("flags")):
        fix = "remove it: it switches a protection of the processor off"
        text = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
        yield Loosening("syscalls", "no such flag", text, "flags", fix, "warning")


def _allowed(profile: dict[str, Any]) -> dict[str, tuple[Conditions, ...]]:
    """Return under which alternatives of conditions each syscall is allowed."""
    allowed: dict[str, tuple[Conditions, ...]] = {}
    for rule in profile["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW":
            for name in rule["names"]:
                allowed[name] = (*allowed.get(name, ()), _conditions(rule))
    return allowed


def _conditions(rule: dict[str, Any]) -> Conditions:
    return frozenset(
        (argument.get("index"), argument.get("value"), argument.get("valueTwo"), argument.get("op"))
        for argument in map(mapping, items(rule.get("args")))
        if all(isinstance(argument.get(key), int) for key in ("index", "value"))
    )


def _rule(
    rule: dict[str, Any], ours: dict[str, tuple[Conditions, ...]], where: str
) -> Iterator[Loosening]:
    conditions = _conditions(rule)
    names = dict.fromkeys([*texts(rule.get("names")), *texts(rule.get("name"))])
    beyond = [name for name in names if name not in ours]
    wider = [name for name in names if name in ours and not _is_within(conditions, ours[name])]
    action = shown(rule.get("action"))
    if beyond:
        text, fix = f"{action}: {_listed(beyond)}", "remove them"
        yield Loosening("syscalls", "refused", text, f"{where}.names", fix)
    if wider:
        text = f"{action} with other arguments: {_listed(wider)}"
        fix = "take the rule of kos-agent export seccomp"
        yield Loosening("syscalls", "some arguments alone", text, f"{where}.args", fix)


def _is_within(conditions: Conditions, alternatives: tuple[Conditions, ...]) -> bool:
    """Tell whether all that conditions let through, one of the alternatives does too."""
    return any(alternative <= conditions for alternative in alternatives)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more

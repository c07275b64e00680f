"""What /proc/PID/status and /proc/PID/limits say of a confined process. Pure (proc(5))."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from kagent_sdk.sandbox.audit.table import SEVERITIES, observe
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Policy

SECCOMP_FILTER = "2"
"""Of the line ``Seccomp``: a filter is in force (linux/seccomp.h, SECCOMP_MODE_FILTER)."""

_SETS = {"CapInh": "inheritable", "CapPrm": "permitted", "CapEff": "effective", "CapAmb": "ambient"}

_MEMORY = "memory_bytes"
_LIMIT_NAMES = {
    _MEMORY: "Max data size",
    "processes": "Max processes",
    "open_files": "Max open files",
    "file_bytes": "Max file size",
}

CORE_SUPPRESSED = 1
"""With this RLIMIT_CORE the kernel writes no file and starts no handler; with 0 it would start a handler
that ``core_pattern`` names (kernel: fs/coredump.c)."""


def parse_status(text: str) -> dict[str, str]:
    """Read ``/proc/PID/status``: values by name, as they stand."""
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}


def parse_limits(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Read ``/proc/PID/limits``: soft and hard limit by name; None is no limit."""
    limits: dict[str, tuple[int | None, int | None]] = {}
    for line in text.splitlines()[1:]:
        # Columns of fixed width: the names have blanks in them (proc_pid_limits(5)).
        name, values = line[:26].strip(), line[26:].split()
        if len(values) >= 2:
            limits[name] = _limit(values[0]), _limit(values[1])
    return limits


def check_status(policy: Policy, text: str, *, where: str) -> tuple[Finding, ...]:
    """Judge what ``/proc/PID/status`` says of a confined process.

    Args:
        policy: what it should be.
        text: of the file; empty when it could not be read.
        where: how to call the file.
    """
    status = parse_status(text)
    if not status:
        return ()
    return (
        _check_user(policy, status, where),
        _check_privileges(policy, status, where),
        _check_capabilities(policy, status, where),
        _check_seccomp(policy, status, where),
        *_check_cores(policy, status, where),
    )


def check_limits(
    policy: Policy, text: str, *, core_pattern: str, is_dumpable: bool, where: str
) -> tuple[Finding, ...]:
    """Judge what ``/proc/PID/limits`` says of a confined process.

    Args:
        policy: what it should be.
        text: of the file; empty when it could not be read.
        core_pattern: of ``/proc/sys/kernel/core_pattern``; empty when it could not be read.
        is_dumpable: whether the process could leave an image at all (PR_GET_DUMPABLE).
        where: how to call the file.
    """
    limits = parse_limits(text)
    if not limits:
        return ()
    return (
        _check_rlimits(policy, limits, where),
        _check_core_limit(policy, limits, core_pattern, is_dumpable=is_dumpable, where=where),
    )


def count_cores(text: str) -> int:
    """Return how many cores a list such as ``0-3,8`` names."""
    count = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            count += (int(last) if last.isdigit() else int(first)) - int(first) + 1
    return count


def _limit(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def _check_user(policy: Policy, status: Mapping[str, str], where: str) -> Finding:
    users, groups = set(status.get("Uid", "").split()), set(status.get("Gid", "").split())
    actual = f"user {_words(users)}, group {_words(groups)}"
    severity = SEVERITIES[Control.USER]
    if "0" in users:
        # Root without capabilities still owns the files of root.
        has_power = bool(int(status.get("CapEff", "0"), 16))
        verdict = Verdict.MISSING if has_power else Verdict.WEAKER
        severity = severity if has_power else Severity.WARNING
        actual = "root" if has_power else "root without capabilities"
    elif policy.user is not None and users | groups != {str(policy.user)}:
        verdict = Verdict.WEAKER
    elif "0" in groups | set(status.get("Groups", "").split()):
        verdict, severity = Verdict.WEAKER, Severity.WARNING
        actual = f"user {_words(users)}, in the group of root"
    else:
        verdict = Verdict.IN_FORCE
    return replace(
        observe(Control.USER, policy, verdict, actual, f"{where} Uid"), severity=severity
    )


def _words(numbers: set[str]) -> str:
    return "/".join(sorted(numbers)) or "unknown"


def _check_privileges(policy: Policy, status: Mapping[str, str], where: str) -> Finding:
    is_set = status.get("NoNewPrivs") == "1"
    return observe(
        Control.NO_NEW_PRIVILEGES,
        policy,
        Verdict.IN_FORCE if is_set else Verdict.MISSING,
        "set" if is_set else "not set",
        f"{where} NoNewPrivs",
    )


def _check_capabilities(policy: Policy, status: Mapping[str, str], where: str) -> Finding:
    held = [name for key, name in _SETS.items() if int(status.get(key, "0"), 16)]
    evidence = f"{where} Cap*"
    if held:
        return observe(
            Control.CAPABILITIES, policy, Verdict.MISSING, f"{', '.join(held)} set", evidence
        )
    if int(status.get("CapBnd", "0"), 16):
        # Only root can empty it; without new privileges nothing comes out of it.
        is_barred = status.get("NoNewPrivs") == "1"
        return observe(
            Control.CAPABILITIES,
            policy,
            Verdict.IN_FORCE if is_barred else Verdict.WEAKER,
            "none held; the bounding set is barred"
            if is_barred
            else "the bounding set is not empty",
            evidence,
        )
    return observe(Control.CAPABILITIES, policy, Verdict.IN_FORCE, "none", evidence)


def _check_seccomp(policy: Policy, status: Mapping[str, str], where: str) -> Finding:
    is_on = status.get("Seccomp") == SECCOMP_FILTER
    count = status.get("Seccomp_filters", "")
    actual = f"{count} filter{'' if count == '1' else 's'}" if count else "a filter"
    return observe(
        Control.SYSCALLS,
        policy,
        Verdict.IN_FORCE if is_on else Verdict.MISSING,
        actual if is_on else "no filter",
        f"{where} Seccomp",
    )


def _check_cores(policy: Policy, status: Mapping[str, str], where: str) -> tuple[Finding, ...]:
    wanted = policy.limits.cpu_cores
    allowed = count_cores(status.get("Cpus_allowed_list", ""))
    if wanted is None or not allowed:
        return ()
    # Affinity knows whole cores alone; a share of one is the cgroup's.
    holds = allowed <= math.ceil(wanted)
    return (
        observe(
            Control.LIMITS,
            policy,
            Verdict.IN_FORCE if holds else Verdict.WEAKER,
            f"{allowed} core{'' if allowed == 1 else 's'}",
            f"{where} Cpus_allowed_list",
        ),
    )


def _check_rlimits(
    policy: Policy, limits: Mapping[str, tuple[int | None, int | None]], where: str
) -> Finding:
    loose = []
    for field, name in _LIMIT_NAMES.items():
        wanted = policy.limits.data_bytes if field == _MEMORY else getattr(policy.limits, field)
        # The hard limit counts: the process may raise the soft one up to it (getrlimit(2)). Of
        # processes the user has others already, which count too.
        hard = limits.get(name, (None, None))[1]
        is_over = hard is None or (field != "processes" and wanted is not None and hard > wanted)
        if wanted is not None and is_over:
            loose.append(field)
    return observe(
        Control.LIMITS,
        policy,
        Verdict.WEAKER if loose else Verdict.IN_FORCE,
        f"not limited as asked: {', '.join(loose)}" if loose else "as asked",
        where,
    )


def _check_core_limit(
    policy: Policy,
    limits: Mapping[str, tuple[int | None, int | None]],
    core_pattern: str,
    *,
    is_dumpable: bool,
    where: str,
) -> Finding:
    hard = limits.get("Max core file size", (None, None))[1]
    is_small = hard is not None and hard <= CORE_SUPPRESSED
    is_piped = core_pattern.startswith(("|", "@"))
    holds = not is_dumpable or (is_small and (not is_piped or hard == CORE_SUPPRESSED))
    if holds:
        verdict, actual = Verdict.IN_FORCE, "off"
    elif is_small:
        verdict, actual = Verdict.WEAKER, "no file, but a program of the machine gets the image"
    else:
        verdict, actual = Verdict.MISSING, "a crash leaves an image"
    return observe(Control.NO_CORE_DUMPS, policy, verdict, actual, f"{where} Max core file size")

"""Whether a cgroup bounds what the policy bounds. Pure; who calls it reads the files."""

from __future__ import annotations

from kagent_sdk.sandbox.audit.table import observe
from kagent_sdk.sandbox.controls import Control, Finding, Verdict
from kagent_sdk.sandbox.policy import HOST_PROCESSES, MEBIBYTE, Policy

ROUNDING = 1.01
"""The kernel rounds memory to pages and cores to microseconds of a period."""


def check_cgroup(
    policy: Policy,
    *,
    memory_bytes: int | None,
    cpu_cores: float | None,
    processes: int | None,
    is_shared: bool,
    where: str,
) -> Finding:
    """Judge the limits of the cgroup of a process against those of the policy.

    Args:
        policy: what is asked for.
        memory_bytes: the smallest limit around the process; None where there is none.
        cpu_cores: as above.
        processes: as above.
        is_shared: the host is in it too, as in a container: its threads are counted with them.
        where: how to call the files.
    """
    limits = policy.limits
    room = HOST_PROCESSES if is_shared else 0
    rows = (
        ("memory", limits.memory_bytes, 0, memory_bytes, _mebibytes(memory_bytes)),
        ("cores", limits.cpu_cores, 0, cpu_cores, f"{cpu_cores or 0:g}"),
        ("processes", limits.processes, room, processes, str(processes)),
    )
    words, bounded, tight = [], [], []
    for name, wanted, more, actual, text in rows:
        if wanted is None:
            continue
        words.append(f"{name} not limited" if actual is None else f"{name} {text}")
        bounded.append(actual is not None)
        tight.append(actual is not None and actual <= wanted * ROUNDING + more)
    if not words:
        return observe(Control.CGROUP, policy, Verdict.NOT_ASKED_FOR, "no limits", "the policy")
    verdict = (
        Verdict.IN_FORCE if all(tight) else Verdict.WEAKER if any(bounded) else Verdict.MISSING
    )
    return observe(Control.CGROUP, policy, verdict, ", ".join(words), where)


def _mebibytes(size_bytes: int | None) -> str:
    return f"{(size_bytes or 0) / MEBIBYTE:g} MiB"

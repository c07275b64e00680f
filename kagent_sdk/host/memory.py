"""Whether the agent is near its memory limit, and should take no more tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1024 * 1024

# Tasks are taken again this far below the soft limit, so that an agent at its edge does not
# flip with every sample.
HYSTERESIS_RATIO = 0.05


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Used memory next to the limit that it counts against.

    Attributes:
        source: whose limit it is: the kernel's cgroup, or ``limits.memory_bytes``.
        used_bytes: None if not known.
        limit_bytes: None if there is none.
    """

    source: Literal["cgroup", "config"]
    used_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """How near the agent is to its memory limit.

    Attributes:
        is_near_limit: whether the agent should take no tasks.
        ratio: used memory as a share of the limit; None without a limit or a usage.
        use: the numbers of the tightest limit; None as above.
        message: why no task should be taken, for people; empty when not near the limit.
    """

    is_near_limit: bool = False
    ratio: float | None = None
    use: MemoryUse | None = None
    message: str = ""


def judge_memory(
    uses: Iterable[MemoryUse], *, soft_ratio: float, was_near_limit: bool
) -> MemoryVerdict:
    """Judge the memory of the agent by the limit that it is nearest to.

    Args:
        uses: one for each limit; those without a limit or a usage are passed over.
        soft_ratio: ``limits.memory_soft_ratio``: from there on no task is taken.
        was_near_limit: the previous verdict. It stands until the ratio is clearly lower.
    """
    measured = [
        (use.used_bytes / use.limit_bytes, _describe(use.used_bytes, use.limit_bytes), use)
        for use in uses
        if use.used_bytes is not None and use.limit_bytes
    ]
    if not measured:
        return MemoryVerdict()
    ratio, numbers, use = max(measured, key=itemgetter(0))
    resume_ratio = find_resume_ratio(soft_ratio)
    if ratio < (resume_ratio if was_near_limit else soft_ratio):
        return MemoryVerdict(ratio=ratio, use=use)
    name = "limits.memory_bytes" if use.source == "config" else "the cgroup's limit"
    message = (
        f"memory is at {ratio:.0%} of {name} ({numbers}); "
        f"no task is taken until it is below {resume_ratio:.0%}"
    )
    return MemoryVerdict(is_near_limit=True, ratio=ratio, use=use, message=message)


def find_lack_of_room(uses: Iterable[MemoryUse], *, more_bytes: int, soft_ratio: float) -> str:
    """Say why the agent has no room for so much more memory; empty when it has, or nobody knows.

    Args:
        uses: one for each limit; those without a limit or a usage are passed over.
        more_bytes: what is to come on top.
        soft_ratio: ``limits.memory_soft_ratio``: the share of the limit that may be used.
    """
    for use in uses:
        if use.used_bytes is None or not use.limit_bytes:
            continue
        if use.used_bytes + more_bytes > use.limit_bytes * soft_ratio:
            name = "limits.memory_bytes" if use.source == "config" else "the cgroup's limit"
            return (
                f"there is no room for a second generation of workers of some "
                f"{more_bytes / MEBIBYTE:.0f} MiB: {_describe(use.used_bytes, use.limit_bytes)} "
                f"of {name} are in use"
            )
    return ""


def find_resume_ratio(soft_ratio: float) -> float:
    """Return the ratio below which tasks are taken again; always over 0."""
    return max(soft_ratio - HYSTERESIS_RATIO, soft_ratio / 2)


def _describe(used_bytes: int, limit_bytes: int) -> str:
    return f"{used_bytes / MEBIBYTE:.0f} of {limit_bytes / MEBIBYTE:.0f} MiB"

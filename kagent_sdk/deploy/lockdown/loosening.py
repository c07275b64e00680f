"""What a manifest takes away from a policy, as frozen data. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Loosening:
    """One thing that a manifest allows and the policy does not.

    Attributes:
        control: which part of the lock-down it is about; the words of the audit where it has one.
        wanted: what the policy wants.
        found: what the manifest has.
        where: path in the file, such as ``services.agent.read_only``, and the line.
        fix: what to write instead.
        severity: ``critical`` where one control alone is a way out.
    """

    control: str
    wanted: str
    found: str
    where: str
    fix: str
    severity: Severity = "critical"


def sort_loosenings(loosenings: list[Loosening]) -> tuple[Loosening, ...]:
    """Return each once: what is critical first, else in the order in which it was found."""
    once = dict.fromkeys(loosenings)
    return tuple(sorted(once, key=lambda one: one.severity != "critical"))

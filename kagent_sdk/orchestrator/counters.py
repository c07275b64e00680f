"""What happened since the orchestrator started; for ``/status`` and ``/metrics``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counts.

    Attributes:
        submitted: tasks that were taken.
        retries: offers of tasks that had been offered before.
        offers: offers that were made, by verdict; those that are fetched by ``fetched``.
        losses: leases that were lost, by what became of the task.
        reports: reports of agents, by outcome and reason.
        duplicates: reports that had been taken before.
        registrations, agents_lost, goodbyes: of instances.
    """

    submitted: int = 0
    retries: int = 0
    offers: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    registrations: int = 0
    agents_lost: int = 0
    goodbyes: int = 0

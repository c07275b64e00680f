"""What all parts of the broker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kagent_sdk.orchestrator.clock import Clock
from kagent_sdk.orchestrator.counters import Counters
from kagent_sdk.orchestrator.settings import BrokerLimits


@dataclass(frozen=True, slots=True)
class Basis:
    """Time, bounds, and a place to count.

    Attributes:
        orchestrator: its id, another one each time it starts.
        clock: of leases, deadlines and documents.
        limits: of tasks, and times of their lives.
        counters: told of what happens.
        expects: names of agents that will register.
        log: ``log(level, event, **keys)``.
    """

    orchestrator: str
    clock: Clock
    limits: BrokerLimits
    counters: Counters = field(default_factory=Counters)
    expects: frozenset[str] = frozenset()
    log: Callable[..., None] = lambda *_words, **_keys: None

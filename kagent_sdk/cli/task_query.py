"""Which tasks `kos-agent tasks` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Task = dict[str, Any]
"""A task document, not trusted."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks: at most so many, the newest; None: in whatever state, of whatever capability, agent."""

    limit: int
    state: str | None = None
    capability: str | None = None
    agent: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Return it as the query of an address, without the limit."""
        found = {"state": self.state, "capability": self.capability, "agent": self.agent}
        return {name: value for name, value in found.items() if value is not None}

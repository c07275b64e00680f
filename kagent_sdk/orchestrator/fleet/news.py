"""What happens in the fleet, told to whoever watches: a log, a person at a terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened.

    Attributes:
        event: a stable snake_case name, such as ``replica_ready``.
        agent: of which agent; empty: of the fleet as a whole.
        replica: of which replica; None: of the agent as a whole.
        values: more, JSON-compatible.
    """

    event: str
    agent: str
    replica: int | None
    values: dict[str, Any]

    @property
    def is_bad(self) -> bool:
        """Whether somebody may have to do something about it."""
        return self.event.endswith(("_failed", "_waiting", "_unusable")) or "_not_" in self.event

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        found: dict[str, Any] = {"event": self.event}
        if self.agent:
            found["agent"] = self.agent
        if self.replica is not None:
            found["replica"] = self.replica
        return found | self.values


Tell = Callable[[News], None]
"""Called on the loop; must return at once and not raise."""


def tell_nobody(_news: News) -> None:
    """Take note of nothing."""

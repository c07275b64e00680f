"""Instances that fell silent and that no other one has replaced yet: somebody may have to look. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MISSED_S = 600.0
"""Whoever has not come back by then will not, or was not meant to."""

MAX_MISSING = 1000
"""The oldest are dropped: a start script gone wrong may register without end."""


@dataclass(frozen=True, slots=True)
class MissingInstance:
    """What is still told of an instance.

    Attributes:
        seen_s: when it was heard of last, on the registry's clock.
    """

    agent: str
    instance: str
    version: str
    sdk_version: str
    delivery: Literal["push", "pull"]
    url: str | None
    seen_s: float


class MissingInstances:
    """The instances that were lost a short while ago."""

    def __init__(self) -> None:
        self._found: dict[str, MissingInstance] = {}

    def note(self, missing: MissingInstance) -> None:
        """Take note of one that is lost."""
        self._found[missing.instance] = missing
        if len(self._found) > MAX_MISSING:
            del self._found[next(iter(self._found))]

    def drop(self, instance: str) -> None:
        """Forget one that is back."""
        self._found.pop(instance, None)

    def agents(self, now_s: float) -> set[str]:
        """Return the names of those of whom one was lost."""
        self._expire(now_s)
        return {one.agent for one in self._found.values()}

    def of(self, agent: str, came_s: Iterable[float], now_s: float) -> list[MissingInstance]:
        """Return those of an agent that nobody has replaced, the one longest away first.

        A new start of a host has a new id. So whoever came after one was heard of last takes its
        place, each of them that of one.

        Args:
            agent: the name.
            came_s: when the instances that are there came.
            now_s: the present.
        """
        self._expire(now_s)
        lost = sorted(
            (one for one in self._found.values() if one.agent == agent), key=lambda one: one.seen_s
        )
        newcomers = sorted(came_s)
        found = []
        for one in lost:
            while newcomers and newcomers[0] <= one.seen_s:
                del newcomers[0]
            if newcomers:
                del newcomers[0]
            else:
                found.append(one)
        return found

    def _expire(self, now_s: float) -> None:
        for key in [key for key, one in self._found.items() if now_s - one.seen_s >= MISSED_S]:
            del self._found[key]

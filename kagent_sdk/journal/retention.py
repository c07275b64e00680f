"""How many finished tasks stay, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass

SLACK_SHARE = 20
"""A 20th over the bounds goes at once, instead of one task with the end of every other."""


@dataclass(slots=True)
class Retention:
    """The bounds on finished tasks, and what there is.

    Attributes:
        age_s, count, size_bytes: the bounds.
        finished, finished_bytes: what there is.
    """

    age_s: float
    count: int
    size_bytes: int
    finished: int = 0
    finished_bytes: int = 0

    def configure(self, age_s: float, count: int, size_bytes: int) -> None:
        """Change the bounds."""
        self.age_s, self.count, self.size_bytes = age_s, count, size_bytes

    @property
    def is_over(self) -> bool:
        """Whether enough is over the bounds to remove it now."""
        return (
            self.finished > self.count + self.count // SLACK_SHARE
            or self.finished_bytes > self.size_bytes + self.size_bytes // SLACK_SHARE
        )

    @property
    def excess(self) -> tuple[int, int]:
        """How many tasks, and how many bytes, are over the bounds."""
        return max(0, self.finished - self.count), max(0, self.finished_bytes - self.size_bytes)

"""Budgets: a limit, what was measured, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


# From here on a digit behind the point says nothing: no measurement is that exact.
_WHOLE_FROM = 100


@dataclass(frozen=True, slots=True)
class Budget:
    """One line of the design's table of budgets.

    Attributes:
        what: what is measured, for a person.
        bound: whether the limit is the most or the least.
        limit: in ``unit``.
        unit: shown behind the numbers; ``x`` for a ratio.
    """

    what: str
    bound: Literal["at most", "at least"]
    limit: float
    unit: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget and its measurement; None when it could not be measured, which is a miss."""

    budget: Budget
    measured: float | None

    @property
    def is_kept(self) -> bool:
        """Whether the measurement is within the budget."""
        if self.measured is None:
            return False
        if self.budget.bound == "at most":
            return self.measured <= self.budget.limit
        return self.measured >= self.budget.limit

    @property
    def word(self) -> str:
        """``ok`` or ``MISSED``."""
        return "ok" if self.is_kept else "MISSED"

    def cells(self) -> list[str]:
        """Return the verdict as a row of a table."""
        budget = self.budget
        shown = "not measured" if self.measured is None else quantity(self.measured, budget.unit)
        limit = f"{budget.bound} {quantity(budget.limit, budget.unit)}"
        return [budget.what, limit, shown, self.word]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-compatible data."""
        budget = self.budget
        return {
            "what": budget.what,
            "bound": budget.bound,
            "limit": budget.limit,
            "unit": budget.unit,
            "measured": self.measured,
            "ok": self.is_kept,
        }


def quantity(value: float, unit: str) -> str:
    """Write a number with its unit: ratios with two digits, the rest with what matters."""
    if unit == "x":
        return f"{value:.2f} x"
    digits = 0 if float(value).is_integer() or abs(value) >= _WHOLE_FROM else 1
    return f"{value:.{digits}f} {unit}".strip()


def all_kept(verdicts: Iterable[Verdict]) -> bool:
    """Say whether every budget is kept."""
    return all(verdict.is_kept for verdict in verdicts)

"""Medians, percentiles and paired ratios: pure functions over lists of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spread", "median", "paired_ratios", "percentile", "spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of repeated measurements."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return median, minimum and maximum.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no measurements")
    return Spread(median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all values do not exceed.

    The nearest-rank definition: always a value that was measured, and 1.0 gives the maximum.

    Raises:
        ValueError: there are no values, or the share is not within 0 and 1.
    """
    if not values:
        raise ValueError("no measurements")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be within 0 and 1, not {share}")
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


def paired_ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of value/base, round by round.

    Both were measured next to each other in every round, so what slows the machine down for a
    while slows both, and the ratio keeps still where the values do not.

    Raises:
        ValueError: the two do not pair up, or a base is not positive.
    """
    if len(values) != len(base):
        raise ValueError(f"{len(values)} measurements do not pair with {len(base)}")
    if any(item <= 0 for item in base):
        raise ValueError("a base is not positive")
    return spread([value / other for value, other in zip(values, base, strict=True)])

"""The numbers of docs/benchmarks.md: medians, percentiles, paired ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.statistics import paired_ratios, percentile, spread

measurements = st.lists(st.floats(min_value=0.001, max_value=1e9), min_size=1, max_size=200)


def test_spread_gives_middle_and_ends() -> None:
    """A reader sees at once how far the rounds lay apart."""
    found = spread([3.0, 1.0, 2.0, 10.0])

    assert (found.median, found.low, found.high, found.count) == (2.5, 1.0, 10.0, 4)


def test_spread_of_nothing_is_refused() -> None:
    """A contender that was never measured must not look like one that takes 0 s."""
    with pytest.raises(ValueError, match="no measurements"):
        spread([])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """A p99 is a latency that some request really had, not one between two."""
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, share) == expected


@given(measurements, st.floats(min_value=0, max_value=1))
def test_percentile_covers_its_share(values: list[float], share: float) -> None:
    """Whatever the values are: at least the share of them is not above the percentile."""
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_percentile_of_nothing_is_refused() -> None:
    """As with the spread."""
    with pytest.raises(ValueError, match="no measurements"):
        percentile([], 0.5)


def test_percentile_takes_shares_not_percents() -> None:
    """99 instead of 0.99 would silently give the maximum."""
    with pytest.raises(ValueError, match="within 0 and 1, not 99"):
        percentile([1.0], 99)


def test_paired_ratios_cancel_what_slows_both() -> None:
    """The second round ran on a machine that was ten times slower: the ratio does not see it."""
    ratio = paired_ratios([200.0, 20.0, 210.0], [100.0, 10.0, 100.0])

    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.1)


def test_ratios_need_pairs() -> None:
    """A round that one side missed would shift all that follow."""
    with pytest.raises(ValueError, match="2 measurements do not pair with 1"):
        paired_ratios([1.0, 2.0], [1.0])


def test_ratios_need_a_positive_base() -> None:
    """A peer that did nothing is broken, not infinitely slow."""
    with pytest.raises(ValueError, match="not positive"):
        paired_ratios([1.0], [0.0])

"""Budgets decide whether a benchmark fails, so they must not err on the kind side."""

from __future__ import annotations

import pytest
from rig.budgets import Budget, Verdict, all_kept, quantity

RATE = Budget("rate compared with a peer", "at least", 0.85, "x")
DELAY = Budget("p99", "at most", 20, "ms")


@pytest.mark.parametrize(
    ("budget", "measured", "is_kept"),
    [
        (RATE, 0.85, True),
        (RATE, 0.849, False),
        (DELAY, 20, True),
        (DELAY, 20.01, False),
    ],
)
def test_the_limit_itself_is_kept(budget: Budget, measured: float, *, is_kept: bool) -> None:
    """Both bounds include their limit, as the design's ≥ and ≤ do."""
    verdict = Verdict(budget, measured)

    assert verdict.is_kept is is_kept
    assert verdict.word == ("ok" if is_kept else "MISSED")


def test_what_was_not_measured_is_missed() -> None:
    """A benchmark that did not run must not pass."""
    verdict = Verdict(RATE, None)

    assert not verdict.is_kept
    assert verdict.cells() == [RATE.what, "at least 0.85 x", "not measured", "MISSED"]


def test_one_missed_budget_is_a_missed_run() -> None:
    """The exit code stands for all of them."""
    assert all_kept([Verdict(RATE, 1.0), Verdict(DELAY, 1.0)])
    assert not all_kept([Verdict(RATE, 1.0), Verdict(DELAY, 21.0)])


def test_a_verdict_is_json() -> None:
    """Programs that follow the numbers over time read the limit beside the measurement."""
    assert Verdict(DELAY, 3.5).as_dict() == {
        "what": "p99",
        "bound": "at most",
        "limit": 20,
        "unit": "ms",
        "measured": 3.5,
        "ok": True,
    }


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.857, "x", "0.86 x"), (20, "ms", "20 ms"), (3.14, "ms", "3.1 ms"), (150.4, "µs", "150 µs")],
)
def test_quantities_show_the_digits_that_matter(value: float, unit: str, text: str) -> None:
    """A reader compares them at a glance."""
    assert quantity(value, unit) == text


def test_a_count_has_no_unit() -> None:
    """Nor a blank where it would stand."""
    assert quantity(0, "") == "0"

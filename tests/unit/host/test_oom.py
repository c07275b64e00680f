"""Which deaths the kernel's counter explains."""

from __future__ import annotations

from kagent_sdk.host.oom import KEPT_CGROUPS, KEPT_READINGS, WINDOW_S, OomCount, OomLedger


def ledger(*readings: tuple[float, int]) -> OomLedger:
    """Return one with readings of the cgroup ``a``."""
    made = OomLedger()
    for at_s, kills in readings:
        made.note(at_s, OomCount("a", kills))
    return made


def test_a_counter_that_rose_explains_a_death() -> None:
    """The reading that counts is one from before the kernel began to kill."""
    assert ledger((0, 2), (1, 2), (5, 2)).claim(5.5, OomCount("a", 3)) is True


def test_a_counter_that_stands_still_explains_nothing() -> None:
    """Somebody else sent that SIGKILL."""
    assert ledger((0, 2), (5, 2)).claim(5.5, OomCount("a", 2)) is False


def test_a_reading_within_the_window_may_have_seen_the_kill_already() -> None:
    """The kernel counts first, and takes its time to free a large process."""
    assert ledger((0, 0), (4, 0), (5, 1)).claim(5.5, OomCount("a", 1)) is True


def test_a_kill_of_long_ago_explains_nothing() -> None:
    """A child of the worker's may have been the victim, a while before."""
    assert ledger((0, 0), (1, 1)).claim(1 + WINDOW_S, OomCount("a", 1)) is False


def test_each_kill_is_given_out_once() -> None:
    """Of two workers that ended together one may have been shot by a person."""
    made = ledger((0, 0))

    assert made.claim(1, OomCount("a", 1)) is True
    assert made.claim(1, OomCount("a", 1)) is False
    assert made.claim(1, OomCount("a", 3)) is True
    assert made.claim(1, OomCount("a", 3)) is True
    assert made.claim(1, OomCount("a", 3)) is False


def test_without_a_counter_or_an_earlier_reading_nothing_is_known() -> None:
    """Unless the counter never counted at all."""
    made = ledger((0, 0))

    assert made.claim(1, None) is None
    assert made.claim(1, OomCount("b", 1)) is None
    assert made.claim(1, OomCount("b", 0)) is False


def test_what_is_kept_is_bounded() -> None:
    """Workers in cgroups of their own come and go for months."""
    made = OomLedger()
    for number in range(KEPT_CGROUPS * 3):
        for at_s in range(KEPT_READINGS * 2):
            made.note(at_s, OomCount(str(number), 0))
        made.claim(KEPT_READINGS * 2, OomCount(str(number), 1))

    assert len(made._readings) == KEPT_CGROUPS
    assert len(made._claimed) == KEPT_CGROUPS
    assert {len(readings) for readings in made._readings.values()} == {KEPT_READINGS}

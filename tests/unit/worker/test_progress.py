"""Progress: said often, sent seldom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kagent_sdk.protocol.frames import Kind
from kagent_sdk.worker.progress import ProgressReport, check_progress
from tests.unit.worker.rig import Bench


class Clock:
    """A clock that the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


def make_report(bench: Bench, clock: Clock) -> ProgressReport:
    """Return the progress of task 1."""
    return ProgressReport(1, bench.loop, bench.connection, bench.services.mailbox, clock)


async def fractions(bench: Bench) -> list[Any]:
    """Return the fractions that were written."""
    frames = await bench.frames()
    return [json.loads(payload)["fraction"] for kind, _, payload in frames if kind == Kind.PROGRESS]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((0.5, "half"), (0.5, "half")),
        ((1, None), (1.0, None)),
        ((1.0000001, None), (1.0, None)),
        ((-1, None), (0.0, None)),
        ((float("inf"), None), (1.0, None)),
        ((None, "at work"), (None, "at work")),
        ((None, "x" * 20_000), (None, "x" * 10_000)),
    ],
)
def test_progress_is_made_to_fit(given: tuple[Any, Any], kept: tuple[Any, Any]) -> None:
    """A sum of floats that ends above 1 is no reason to fail a task."""
    assert check_progress(*given) == kept


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("0.5", None), TypeError),
        ((True, None), TypeError),
        ((0.5, 7), TypeError),
        ((float("nan"), None), ValueError),
    ],
)
def test_progress_that_is_none_is_refused(given: tuple[Any, Any], error: type[Exception]) -> None:
    """The author hears of the mistake where it is made."""
    with pytest.raises(error, match="progress: "):
        check_progress(*given)


async def test_the_first_update_travels_at_once_the_next_with_the_timer() -> None:
    """A person sees something soon, and no flicker."""
    bench, clock = Bench(), Clock()
    report = make_report(bench, clock)
    for number in (1, 2, 3):
        await report.report((number / 10, None))
    assert await fractions(bench) == [0.1]
    clock.now_s += 0.05
    report._on_timer()
    report._on_timer()

    assert await fractions(bench) == [0.3]


async def test_the_last_update_is_sent_at_the_end_and_nothing_after() -> None:
    """A bar that stops at 98 % looks like a failure."""
    bench, clock = Bench(), Clock()
    report = make_report(bench, clock)
    await report.report((0.1, None))
    await report.report((1.0, None))
    report.close()
    await report.report((0.2, None))
    await report.report_from_thread((0.3, None))

    assert await fractions(bench) == [0.1, 1.0]


async def test_an_end_without_news_sends_nothing() -> None:
    """What was said has been sent."""
    bench, clock = Bench(), Clock()
    report = make_report(bench, clock)
    await report.report((0.1, None))
    report.close()

    assert await fractions(bench) == [0.1]


async def test_updates_of_a_thread_share_a_letter() -> None:
    """A loop of a million reports must not flood the event loop."""
    bench, clock = Bench(), Clock()
    report = make_report(bench, clock)
    for number in range(10):
        await report.report_from_thread((number / 10, None))

    assert await fractions(bench) == [0.9]


async def test_updates_wait_for_a_host_that_does_not_read() -> None:
    """Only the latest is kept."""
    bench, clock = Bench(), Clock()
    report = make_report(bench, clock)
    bench.connection.pause_writing()
    for number in range(10):
        await report.report((number / 10, None))
    assert await fractions(bench) == []
    bench.connection.resume_writing()
    report._on_timer()

    assert await fractions(bench) == [0.9]

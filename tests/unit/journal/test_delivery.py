"""When a message is sent again, and when it is given up: every answer has one outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.journal.delivery import (
    LANE_PATIENCE,
    LANE_PLACES,
    Action,
    Answer,
    Attempt,
    Lanes,
    RetryLimits,
    Verdict,
    backoff_s,
    is_transient,
    judge,
    parse_retry_after,
)

LIMITS = RetryLimits(max_s=300.0, give_up_s=86_400.0)
NOW_S = 1_700_000_000.0


def verdict_on(
    answer: Answer,
    *,
    failures: int = 0,
    lane_failures: int = 0,
    age_s: float = 10.0,
    chance: float = 1.0,
) -> Verdict:
    """Judge an attempt; chance gives the longest wait unless it says otherwise."""
    return judge(Attempt(answer, failures, lane_failures, age_s), LIMITS, lambda: chance)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_acknowledges(status: int) -> None:
    """Receivers answer what their framework answers."""
    assert verdict_on(Answer(status), age_s=1e9) == Verdict(Action.ACKNOWLEDGE)


def test_a_receiver_that_is_gone_is_not_asked_again() -> None:
    """410 is how a receiver says so (Standard Webhooks)."""
    verdict = verdict_on(Answer(410))

    assert verdict.action is Action.DROP
    assert "410" in verdict.reason


@pytest.mark.parametrize("answer", [Answer(error="refused"), *map(Answer, (408, 425, 429, 503))])
def test_a_receiver_in_trouble_is_asked_again_soon(answer: Answer) -> None:
    """The first failures may be these messages' own; then it is the receiver, and all wait."""
    assert is_transient(answer)
    assert verdict_on(answer) == Verdict(Action.POSTPONE, wait_s=1.0)
    assert verdict_on(answer, failures=3, lane_failures=2) == Verdict(Action.POSTPONE, wait_s=8.0)
    assert verdict_on(answer, lane_failures=3) == Verdict(
        Action.POSTPONE, wait_s=1.0, lane_wait_s=1.0
    )
    assert verdict_on(answer, failures=1, lane_failures=6) == Verdict(
        Action.POSTPONE, wait_s=8.0, lane_wait_s=8.0
    )
    assert verdict_on(answer, failures=1, lane_failures=500).wait_s == LIMITS.max_s


@pytest.mark.parametrize(
    "answer", [*map(Answer, (301, 302, 400, 401, 404, 422)), Answer(error="no", is_mistake=True)]
)
def test_a_mistake_is_tried_again_seldom_and_holds_up_nobody(answer: Answer) -> None:
    """Somebody may put it right, and the messages beside it may be fine."""
    assert not is_transient(answer)
    assert verdict_on(answer, chance=1.0) == Verdict(Action.POSTPONE, wait_s=300.0)
    assert verdict_on(answer, chance=0.0) == Verdict(Action.POSTPONE, wait_s=150.0)


@pytest.mark.parametrize(
    "answer", [Answer(error="no connection: refused"), Answer(500), Answer(404)]
)
def test_a_message_is_given_up_when_it_is_too_old(answer: Answer) -> None:
    """The outbox must not keep for ever what nobody takes."""
    verdict = verdict_on(answer, failures=4, age_s=LIMITS.give_up_s)

    assert verdict.action is Action.DROP
    assert verdict.reason == f"not delivered within 86400 s, 5 attempts: {answer}"
    assert verdict_on(answer, age_s=LIMITS.give_up_s - 1).action is Action.POSTPONE


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.5, 1.0), (120.0, 120.0), (5000.0, 300.0)])
def test_what_a_receiver_asks_for_is_honoured_within_bounds(asked_s: float, wait_s: float) -> None:
    """Else a receiver could switch its messages off by one header, or be asked too soon."""
    verdict = verdict_on(Answer(429, retry_after_s=asked_s))

    assert verdict.wait_s == wait_s
    assert verdict.lane_wait_s == min(asked_s, 300.0)
    assert verdict_on(Answer(429, retry_after_s=asked_s), lane_failures=3).lane_wait_s == wait_s


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_no_wait_is_over_its_bound(failures: int, chance: float) -> None:
    """2 to the power of 10,000 is no float."""
    assert 0 <= backoff_s(failures, 300.0, lambda: chance) <= 300.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("9" * 11, None),
        ("soon", None),
        ("9" * 100, None),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Tue, 99 Nov 2023 22:13:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    """Both forms are the standard's; whatever else stands there is no reason to fail."""
    assert parse_retry_after(value, NOW_S) == expected


@given(st.text(max_size=80))
def test_no_header_whatever_is_an_error(value: str) -> None:
    """It comes from a stranger."""
    seconds = parse_retry_after(value, NOW_S)

    assert seconds is None or seconds >= 0


def test_an_open_lane_takes_several_and_not_all() -> None:
    """One slow receiver must leave places for others."""
    lanes = Lanes()
    for _ in range(3):
        lanes.begin("a")

    assert lanes.room(0.0)("a") == LANE_PLACES - 3
    assert lanes.room(0.0)("b") == LANE_PLACES


def test_a_failing_lane_waits_and_then_gets_one_at_a_time() -> None:
    """A receiver that comes back is not buried."""
    lanes = Lanes()
    lanes.begin("a")
    for number in range(LANE_PATIENCE):
        assert not lanes.is_failing("a")
        assert lanes.room(0.0)("a") == LANE_PLACES - 1
        lanes.failed("a", 5.0 if number == LANE_PATIENCE - 1 else 0.0)
    lanes.end("a")

    assert lanes.is_failing("a")
    assert lanes.room(4.9)("a") == 0
    assert lanes.next_at(4.9) == 5.0
    assert lanes.room(5.0)("a") == 1
    assert lanes.next_at(5.0) is None
    lanes.begin("a")
    assert lanes.room(5.0)("a") == 0


def test_one_arrival_opens_a_lane() -> None:
    """The receiver is back."""
    lanes = Lanes()
    lanes.begin("a")
    lanes.failed("a", 5.0)
    lanes.failed("a", 3.0)
    assert (lanes.failures("a"), lanes.next_at(0.0)) == (2, 5.0)
    lanes.arrived("a")

    assert lanes.failures("a") == 0
    assert lanes.room(0.0)("a") == LANE_PLACES - 1
    lanes.end("a")
    assert lanes == Lanes()


def test_what_was_known_of_lanes_can_be_forgotten() -> None:
    """A new configuration or vault gives every receiver another chance."""
    lanes = Lanes()
    lanes.failed("a", 5.0)
    lanes.failed("b", 9.0)
    lanes.clear()
    lanes.arrived("c")

    assert lanes == Lanes()
    assert lanes.failures("a") == 0


def test_the_room_is_a_copy() -> None:
    """The database's thread asks for it while the loop goes on."""
    lanes = Lanes()
    lanes.begin("a")
    room = lanes.room(0.0)
    lanes.begin("a")

    assert room("a") == LANE_PLACES - 1

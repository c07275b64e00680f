"""What to do with a message after it was sent, and when to send again. Pure: clock and chance come in.

An answer of 2xx is the acknowledgement. 410 says that nobody wants it any more. A network error, 408,
425, 429 and 5xx pass: the message waits, and when several in a row fail so, or the receiver asks for
it, its whole lane does. Everything else (a redirect, a path that is not there, a signature that is
not taken) is somebody's mistake, which may be put right: it is tried again seldom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

FIRST_WAIT_S = 1.0
"""Bound of the wait after the first failure; it doubles with each."""

MAX_DOUBLINGS = 60
"""2**60 seconds are over every bound, and no overflow of a float."""

LANE_PLACES = 4
"""Of a receiver that answers: half of all deliveries under way, so that no one has all of them."""

LANE_PATIENCE = 4
"""Failures in a row after which it is the receiver that fails, and not only these messages."""

_TRANSIENT = frozenset({408, 425, 429})

_MAX_RETRY_AFTER_CHARS = 64

_is_seconds = re.compile(r"[0-9]{1,10}").fullmatch


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long to try.

    Attributes:
        max_s: the longest wait between two attempts.
        give_up_s: the age at which a message that cannot be delivered is dropped.
    """

    max_s: float
    give_up_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt.

    Attributes:
        status: of the HTTP answer; None when there was none.
        error: why there was none, or why nothing was sent.
        retry_after_s: what the receiver asks for.
        is_mistake: nothing was sent, and will not be until somebody puts something right.
    """

    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None
    is_mistake: bool = False

    def __str__(self) -> str:
        return self.error if self.status is None else f"HTTP {self.status}"


class Action(StrEnum):
    """What becomes of the message."""

    ACKNOWLEDGE = "acknowledge"
    POSTPONE = "postpone"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after one attempt.

    Attributes:
        wait_s: of a message that is postponed.
        lane_wait_s: how long to send nothing in the same lane.
        reason: of a message that is dropped.
    """

    action: Action
    wait_s: float = 0.0
    lane_wait_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that is over.

    Attributes:
        failures: how often this message has failed before.
        lane_failures: how often its lane has failed since it last took anything.
        age_s: of the message.
    """

    answer: Answer
    failures: int
    lane_failures: int
    age_s: float


def judge(attempt: Attempt, limits: RetryLimits, random: Callable[[], float]) -> Verdict:
    """Say what to do after an attempt.

    Args:
        attempt: what came of it.
        limits: how long to try.
        random: returns a number from 0 to 1, such as `random.random`.
    """
    answer = attempt.answer
    status = answer.status
    if status is not None and 200 <= status <= 299:
        return Verdict(Action.ACKNOWLEDGE)
    if status == 410:
        return Verdict(Action.DROP, reason="the receiver is gone for good (HTTP 410)")
    if attempt.age_s >= limits.give_up_s:
        tries = attempt.failures + 1
        reason = f"not delivered within {limits.give_up_s:g} s, {tries} attempts: {answer}"
        return Verdict(Action.DROP, reason=reason)
    if not is_transient(answer):
        # Between half the longest wait and all of it: seldom, and not all at the same time.
        return Verdict(Action.POSTPONE, wait_s=limits.max_s * (0.5 + 0.5 * random()))
    asked_s = min(answer.retry_after_s or 0.0, limits.max_s)
    over = attempt.lane_failures + 1 - LANE_PATIENCE
    lane_wait_s = asked_s
    if over >= 0:
        lane_wait_s = max(asked_s, backoff_s(over, limits.max_s, random))
    wait_s = max(asked_s, backoff_s(max(attempt.failures, over), limits.max_s, random))
    return Verdict(Action.POSTPONE, wait_s=wait_s, lane_wait_s=lane_wait_s)


def is_transient(answer: Answer) -> bool:
    """Whether a failure tells of the receiver's condition, which passes."""
    if answer.status is None:
        return not answer.is_mistake
    return answer.status in _TRANSIENT or answer.status >= 500


def backoff_s(failures: int, max_s: float, random: Callable[[], float]) -> float:
    """Return how long to wait after so many failures before this one: exponential, full jitter.

    Full jitter keeps messages that failed together from coming back together
    (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    ceiling_s: float = min(max_s, FIRST_WAIT_S * 2 ** min(failures, MAX_DOUBLINGS))
    return ceiling_s * random()


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Return the seconds that the header Retry-After asks for (RFC 9110, 10.2.3).

    None when there is none, or one that nobody can read; 0 for a date that is past.
    """
    if not value or len(value) > _MAX_RETRY_AFTER_CHARS:
        return None
    value = value.strip()
    if _is_seconds(value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000"
        at = at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - now_s)


@dataclass(slots=True)
class _Lane:
    under_way: int = 0
    failures: int = 0
    not_before: float = -math.inf


@dataclass(slots=True)
class Lanes:
    """How the lanes of a channel are: which of them may be sent to, and how much at a time.

    One that has failed `LANE_PATIENCE` times in a row gets one message at a time, after a wait, until
    it takes one. Lanes that are as good as new are forgotten: the table has no more rows than there are lanes in trouble or in use.
    Times are of a clock that is never set, such as the event loop's.
    """

    _lanes: dict[str, _Lane] = field(default_factory=dict)

    def room(self, now_s: float) -> Callable[[str], int]:
        """Return a function that tells how many more messages a lane may get now.

        It is a copy: another thread may call it.
        """
        places = {name: _places(lane, now_s) for name, lane in self._lanes.items()}
        return lambda name: places.get(name, LANE_PLACES)

    def next_at(self, now_s: float) -> float | None:
        """Return when the next lane that waits may be sent to; None when none waits."""
        waiting = [lane.not_before for lane in self._lanes.values() if lane.not_before > now_s]
        return min(waiting, default=None)

    def is_failing(self, name: str) -> bool:
        """Whether it fails, and not only some of its messages."""
        return self.failures(name) >= LANE_PATIENCE

    def failures(self, name: str) -> int:
        """Return how often it failed since it last took anything."""
        return self._lanes[name].failures if name in self._lanes else 0

    def begin(self, name: str) -> None:
        """Note that a message is under way."""
        self._lanes.setdefault(name, _Lane()).under_way += 1

    def end(self, name: str) -> None:
        """Note that a message is not under way any more."""
        lane = self._lanes[name]
        lane.under_way -= 1
        self._forget(name, lane)

    def arrived(self, name: str) -> None:
        """Note that it takes messages."""
        lane = self._lanes.get(name)
        if lane is not None:
            lane.failures, lane.not_before = 0, -math.inf
            self._forget(name, lane)

    def failed(self, name: str, until_s: float) -> None:
        """Note that it takes none, and when to look again."""
        lane = self._lanes.setdefault(name, _Lane())
        lane.failures += 1
        lane.not_before = max(lane.not_before, until_s)

    def clear(self) -> None:
        """Forget every failure: something has changed."""
        for name in list(self._lanes):
            self.arrived(name)

    def _forget(self, name: str, lane: _Lane) -> None:
        if not lane.under_way and not lane.failures:
            del self._lanes[name]


def _places(lane: _Lane, now_s: float) -> int:
    if lane.not_before > now_s:
        return 0
    return (1 if lane.failures >= LANE_PATIENCE else LANE_PLACES) - lane.under_way

"""What a link does next: pure decisions. Clock and chance come in.

A failure of the orchestrator's is one of five (`Fault`). One that passes is met with waits that grow
to one heartbeat's interval, so that a link is back within two of them. One that somebody must put
right (a token, a certificate, an address) is tried again at the heartbeat's pace.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kagent_sdk.link.port import LinkState, LinkStatus
    from kagent_sdk.protocol.link import AgentLimits, Registered

FIRST_WAIT_S = 0.05
"""After the first failure: most are a restart, and a connection that it has closed."""

MAX_DOUBLINGS = 30
"""2**30 times the first wait is over every interval, and no overflow of a float."""

MIN_INTERVAL_S = 0.1
"""An orchestrator that wants to hear of an agent more often does not get its way."""

BEATS_PER_LEASE = 3
"""Two heartbeats may be lost before the lease is."""

MAX_FETCHERS = 4
"""Fetches at a time: the next task is on its way while one is being journaled."""

MAX_REFUSAL_WAIT_S = 60.0

MIN_EMPTY_FETCH_S = 1.0
"""An orchestrator that has nothing and says so at once is asked again after this time only."""

_TRANSIENT = frozenset({408, 425, 429})
_MALFORMED = frozenset({400, 413, 422})

is_code = re.compile(r"[a-z][a-z0-9_]{0,49}").fullmatch
"""Whether a text may be shown as the code of a problem or a failure: a match, or None."""


class Fault(StrEnum):
    """Whose turn it is after a failure."""

    AWAY = "away"
    """No answer, or one that says that it passes: the orchestrator comes back by itself."""
    REFUSED = "refused"
    """It answers, but not as an orchestrator that takes this agent: somebody must put that right."""
    UNKNOWN = "unknown"
    """It does not know what the path names, as after it lost its memory: begin anew."""
    MALFORMED = "malformed"
    """It understands kLink, and says that this message is not: the message will never be taken."""
    BROKEN = "broken"
    """It speaks kLink, and has failed on this message: it, or the message, has a fault."""


class ContactError(Exception):
    """A request to the orchestrator has failed.

    Attributes:
        reason: for people; no token, no path, nothing of what the orchestrator wrote but a code.
        fault: what to do about it.
        status: of the answer; None when there was none.
    """

    def __init__(
        self, reason: str, fault: Fault = Fault.AWAY, *, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fault = fault
        self.status = status


def judge_status(status: int, code: str = "") -> ContactError | None:
    """Say what an answer's status means; None for success.

    Args:
        status: of the HTTP answer.
        code: of its problem document; empty when it is none.
    """
    if 200 <= status <= 299:
        return None
    code = code if is_code(code) else ""
    said = f"HTTP {status}, {code}" if code else f"HTTP {status}"
    if status in _TRANSIENT or status >= 500:
        fault = Fault.BROKEN if status == 500 and code else Fault.AWAY
        return ContactError(f"the orchestrator cannot answer now ({said})", fault, status=status)
    reason, fault = f"the orchestrator refuses the request ({said})", Fault.REFUSED
    if status in {401, 403}:
        reason = f"the orchestrator refuses this agent's token ({said}): see orchestrator.token"
    elif 300 <= status <= 399:
        reason = f"the orchestrator redirects, which is not followed ({said}): see orchestrator.url"
    elif status == 404:
        reason = f"no orchestrator, or no such thing, is at this address ({said})"
        fault = Fault.UNKNOWN
    elif status in _MALFORMED and code:
        fault = Fault.MALFORMED
    return ContactError(reason, fault, status=status)


def heartbeat_interval_s(own_s: float, answer: Registered | None) -> float:
    """Return how often to send a heartbeat: as often as either side wants, within reason.

    Args:
        own_s: ``orchestrator.heartbeat_s``.
        answer: what the orchestrator said last.
    """
    if answer is None:
        return own_s
    wanted_s = min(own_s, answer.heartbeat_s, answer.lease_s / BEATS_PER_LEASE)
    return max(wanted_s, min(own_s, MIN_INTERVAL_S))


def request_timeout_s(timeout_s: float, interval_s: float) -> float:
    """Return how long one registration or heartbeat may take.

    Not much longer than the interval: one that hangs in a network that is back must not keep the
    link down.
    """
    return min(timeout_s, max(interval_s, 1.0))


def spread_s(interval_s: float, random: Callable[[], float]) -> float:
    """Return an interval that is up to a tenth shorter: agents that began together drift apart."""
    return interval_s * (0.9 + 0.1 * random())


def retry_wait_s(
    fault: Fault, failures: int, interval_s: float, random: Callable[[], float]
) -> float:
    """Return how long to wait before the next attempt.

    Args:
        fault: of the last attempt.
        failures: in a row, this one included.
        interval_s: between two heartbeats: the longest wait.
        random: returns a number from 0 to 1, such as `random.random`.
    """
    ceiling_s = interval_s
    if fault in {Fault.AWAY, Fault.BROKEN}:
        doublings = min(max(failures - 1, 0), MAX_DOUBLINGS)
        ceiling_s = min(interval_s, FIRST_WAIT_S * 2**doublings)
    return ceiling_s * (0.5 + 0.5 * random())


def registration_wait_s(now_s: float, last_at_s: float | None, interval_s: float) -> float:
    """Return how long to wait before the agent is registered again: once in an interval.

    Else an orchestrator that takes registrations and knows nobody would be asked without pause.

    Args:
        now_s: by a clock that is never set.
        last_at_s: when it was registered last, by the same clock; None for never.
        interval_s: between two heartbeats.
    """
    if last_at_s is None:
        return 0.0
    return max(0.0, last_at_s + interval_s - now_s)


def fetcher_count(limits: AgentLimits) -> int:
    """Return how many fetches may be under way: what they bring at once must find a place."""
    return min(MAX_FETCHERS, limits.max_concurrency, 1 + limits.max_queue)


def empty_fetch_wait_s(took_s: float, asked_s: float) -> float:
    """Return how long to wait after a fetch that brought nothing."""
    return max(0.0, min(MIN_EMPTY_FETCH_S, asked_s) - took_s)


def refusal_wait_s(retry_after_s: float) -> float:
    """Return how long to fetch nothing after an offer was not taken."""
    return min(max(retry_after_s, 0.0), MAX_REFUSAL_WAIT_S)


def note_registration(
    status: LinkStatus, now_s: float, orchestrator: str, *, is_draining: bool
) -> None:
    """Note that the orchestrator has taken note of the agent."""
    status.orchestrator = orchestrator
    status.registrations += 1
    note_contact(status, now_s, is_draining=is_draining)


def note_contact(status: LinkStatus, now_s: float, *, is_draining: bool) -> None:
    """Note that the orchestrator has answered as it should."""
    status.last_contact_at = now_s
    status.last_error = None
    _enter(status, "draining" if is_draining else "up", now_s)


def note_failure(status: LinkStatus, now_s: float, reason: str) -> None:
    """Note that it has not."""
    status.last_error = reason
    _enter(status, "down", now_s)


def note_drain(status: LinkStatus, now_s: float) -> None:
    """Note that the agent takes no more tasks; a link that is down is more than that."""
    if status.state == "up":
        _enter(status, "draining", now_s)


def note_end(status: LinkStatus, now_s: float) -> None:
    """Note that the link is closed."""
    _enter(status, "gone", now_s)


def _enter(status: LinkStatus, state: LinkState, now_s: float) -> None:
    if status.state not in {"gone", state}:
        status.state = state
        status.since = now_s

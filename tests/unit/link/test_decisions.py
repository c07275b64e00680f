"""What a link does next: every answer has one meaning, and every wait a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.link.decisions import (
    FIRST_WAIT_S,
    MAX_FETCHERS,
    MIN_INTERVAL_S,
    Fault,
    empty_fetch_wait_s,
    fetcher_count,
    heartbeat_interval_s,
    judge_status,
    note_contact,
    note_drain,
    note_end,
    note_failure,
    note_registration,
    refusal_wait_s,
    registration_wait_s,
    request_timeout_s,
    retry_wait_s,
    spread_s,
)
from kagent_sdk.link.port import LinkStatus
from kagent_sdk.protocol.link import AgentLimits, Registered


def answer(*, lease_s: float = 30.0, heartbeat_s: float = 5.0) -> Registered:
    """Return what an orchestrator says."""
    return Registered(orchestrator="o", lease_s=lease_s, heartbeat_s=heartbeat_s)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_every_2xx_is_success(status: int) -> None:
    """Which one it is says nothing more."""
    assert judge_status(status) is None


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (100, "", Fault.REFUSED),
        (301, "", Fault.REFUSED),
        (308, "", Fault.REFUSED),
        (400, "", Fault.REFUSED),
        (400, "invalid_json", Fault.MALFORMED),
        (401, "unauthenticated", Fault.REFUSED),
        (403, "", Fault.REFUSED),
        (404, "", Fault.UNKNOWN),
        (408, "", Fault.AWAY),
        (409, "id_conflict", Fault.REFUSED),
        (413, "body_too_large", Fault.MALFORMED),
        (422, "invalid_request", Fault.MALFORMED),
        (422, "Not A Code", Fault.REFUSED),
        (425, "", Fault.AWAY),
        (429, "queue_full", Fault.AWAY),
        (500, "", Fault.AWAY),
        (500, "internal_error", Fault.BROKEN),
        (503, "starting", Fault.AWAY),
        (999, "", Fault.AWAY),
    ],
)
def test_every_other_status_is_somebody_s_turn(status: int, code: str, fault: Fault) -> None:
    """Ours, the operator's, or that of time."""
    error = judge_status(status, code)

    assert error is not None
    assert (error.fault, error.status) == (fault, status)
    assert str(status) in error.reason
    assert "Not A Code" not in error.reason


def test_a_reason_names_the_key_to_look_at() -> None:
    """The operator reads it in /status and knows where to go."""
    assert "orchestrator.token" in str(judge_status(401))
    assert "orchestrator.url" in str(judge_status(302))


@given(
    own_s=st.floats(0.001, 300),
    lease_s=st.floats(1e-300, 1e300),
    heartbeat_s=st.floats(1e-300, 1e300),
)
def test_an_interval_is_within_reason_whatever_the_orchestrator_wants(
    own_s: float, lease_s: float, heartbeat_s: float
) -> None:
    """It may ask for more heartbeats, but not for a flood, nor for silence."""
    interval_s = heartbeat_interval_s(own_s, answer(lease_s=lease_s, heartbeat_s=heartbeat_s))

    assert min(own_s, MIN_INTERVAL_S) <= interval_s <= own_s


def test_a_lease_outlives_two_lost_heartbeats() -> None:
    """Else one lost packet costs the agent its tasks."""
    assert heartbeat_interval_s(60, answer(lease_s=30, heartbeat_s=60)) == 10
    assert heartbeat_interval_s(60, answer(lease_s=3000, heartbeat_s=7)) == 7
    assert heartbeat_interval_s(60, None) == 60


def test_a_request_that_hangs_is_given_up_in_about_an_interval() -> None:
    """After a partition the next one finds the way."""
    assert request_timeout_s(15, 5) == 5
    assert request_timeout_s(15, 0.1) == 1
    assert request_timeout_s(2, 5) == 2


def test_heartbeats_drift_apart() -> None:
    """A thousand agents that start together must not come together for ever."""
    assert spread_s(10, lambda: 0.0) == 9
    assert spread_s(10, lambda: 1.0) == 10


@given(
    failures=st.integers(-1, 10**9),
    interval_s=st.floats(0.01, 300),
    chance=st.floats(0, 1),
    fault=st.sampled_from(Fault),
)
def test_no_wait_is_longer_than_an_interval(
    failures: int, interval_s: float, chance: float, fault: Fault
) -> None:
    """An orchestrator that is back is found within two heartbeats."""
    assert 0 < retry_wait_s(fault, failures, interval_s, lambda: chance) <= interval_s


def test_what_passes_is_tried_again_soon_and_what_does_not_at_leisure() -> None:
    """A restart takes a moment; a wrong token is a matter of hours."""
    waits = [retry_wait_s(Fault.AWAY, n, 5.0, lambda: 1.0) for n in (1, 2, 3, 50)]

    assert waits == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S, 5.0]
    assert retry_wait_s(Fault.REFUSED, 1, 5.0, lambda: 0.0) == 2.5


def test_an_agent_is_registered_once_in_an_interval() -> None:
    """At once for the first time, and after an outage."""
    assert registration_wait_s(100, None, 5) == 0
    assert registration_wait_s(100, 98, 5) == 3
    assert registration_wait_s(100, 50, 5) == 0


@pytest.mark.parametrize(
    ("concurrency", "queue", "count"), [(1, 0, 1), (8, 0, 1), (8, 1, 2), (1, 100, 1), (8, 100, 4)]
)
def test_what_all_fetches_bring_finds_a_place(concurrency: int, queue: int, count: int) -> None:
    """A task that is fetched and refused waits for its lease to run out."""
    assert fetcher_count(AgentLimits(max_concurrency=concurrency, max_queue=queue)) == count
    assert count <= MAX_FETCHERS


def test_waits_of_fetches_are_bounded() -> None:
    """Neither without pause, nor for ever."""
    assert empty_fetch_wait_s(0.0, 20) == 1
    assert empty_fetch_wait_s(0.4, 20) == pytest.approx(0.6)
    assert empty_fetch_wait_s(20.0, 20) == 0
    assert empty_fetch_wait_s(0.0, 0.5) == 0.5
    assert refusal_wait_s(-1) == 0
    assert refusal_wait_s(2) == 2
    assert refusal_wait_s(1e9) == 60


def test_the_status_tells_the_life_of_a_link() -> None:
    """``since`` is when a state was entered, and not when it was seen last."""
    status = LinkStatus(since=1.0)
    note_failure(status, 2.0, "no connection")
    note_failure(status, 3.0, "no answer")
    assert (status.state, status.since, status.last_error) == ("down", 2.0, "no answer")

    note_registration(status, 4.0, "o1", is_draining=False)
    note_contact(status, 5.0, is_draining=False)
    assert (status.state, status.since, status.last_contact_at) == ("up", 4.0, 5.0)
    assert (status.orchestrator, status.registrations, status.last_error) == ("o1", 1, None)

    note_drain(status, 6.0)
    note_contact(status, 7.0, is_draining=True)
    assert (status.state, status.since) == ("draining", 6.0)

    note_failure(status, 8.0, "no answer")
    note_drain(status, 9.0)
    assert (status.state, status.since) == ("down", 8.0)

    note_end(status, 10.0)
    note_contact(status, 11.0, is_draining=False)
    assert (status.state, status.since) == ("gone", 10.0)

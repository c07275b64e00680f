"""What a replica makes of a message, by the task's record."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from kagent_sdk.link.nats.records import (
    Delivery,
    Rules,
    TaskRecord,
    Verdict,
    end_document,
    judge,
    lease_word,
    seconds_left,
)
from kagent_sdk.protocol.link import WORD_PATTERN
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

FIRST, AGAIN = Delivery(7, 1), Delivery(7, 2)
ONCE = Rules(is_idempotent=False, max_attempts=3, lost_after_s=60)
OFTEN = Rules(is_idempotent=True, max_attempts=3, lost_after_s=60)
NEW = TaskRecord(task="t", agent="a", capability="c", created_at=5)
HELD = NEW.with_changes(
    state=TaskState.WORKING,
    lease="l" * 16,
    attempt=1,
    sequence=7,
    delivery=1,
    ack="$JS.ACK.stream.agents.1.7.9",
)
ENDED = HELD.with_changes(state=TaskState.COMPLETED, result={"output": 1})


@pytest.mark.parametrize(
    ("record", "delivery", "rules", "verdict"),
    [
        (None, FIRST, ONCE, Verdict.CLAIM),
        (NEW, FIRST, ONCE, Verdict.CLAIM),
        (ENDED, AGAIN, OFTEN, Verdict.DROP),
        (HELD.with_changes(result_object="large"), AGAIN, OFTEN, Verdict.DROP),
        (HELD, Delivery(8, 1), OFTEN, Verdict.DROP),
        (HELD, FIRST, OFTEN, Verdict.IGNORE),
        (HELD.with_changes(is_cancelled=True), FIRST, OFTEN, Verdict.IGNORE),
        (HELD.with_changes(is_cancelled=True), AGAIN, OFTEN, Verdict.CANCEL),
        (NEW.with_changes(is_cancelled=True), FIRST, ONCE, Verdict.CANCEL),
        (HELD.with_changes(lease=None), FIRST, ONCE, Verdict.CLAIM),
        (HELD, AGAIN, OFTEN, Verdict.CLAIM),
        (HELD.with_changes(attempt=3), AGAIN, OFTEN, Verdict.BURY),
        (HELD, AGAIN, ONCE, Verdict.WAIT),
        (HELD.with_changes(missed_at=41.0), AGAIN, ONCE, Verdict.WAIT),
        (HELD.with_changes(missed_at=40.0), AGAIN, ONCE, Verdict.BURY),
    ],
)
def test_messages_are_judged_by_the_record(
    record: TaskRecord | None, delivery: Delivery, rules: Rules, verdict: Verdict
) -> None:
    """Each wrong one here is a task that is lost, or one that runs twice."""
    assert judge(record, delivery, rules, 100.0) is verdict


def test_a_lease_is_a_word_of_the_link() -> None:
    """Hosts and journals take no other."""
    word = lease_word(Delivery(2**63, 2**40), "0" * 24)

    assert re.match(WORD_PATTERN, word)
    assert lease_word(Delivery(7, 1), "ab" * 12) == "7-1-" + "ab" * 12


def test_a_record_survives_being_written_and_read() -> None:
    """Replicas of other versions read it too, so what is not said is left out."""
    text = HELD.model_dump_json(exclude_defaults=True)

    assert TaskRecord.model_validate_json(text) == HELD
    assert "missed_at" not in text


@pytest.mark.parametrize("ack", ["kagent.tasks.a.c", "$JS.API.STREAM.DELETE.x", "$JS.ACK.a b"])
def test_a_record_cannot_make_an_agent_publish_elsewhere(ack: str) -> None:
    """Who may write records must not get the rights of the agents that read them."""
    forged = HELD.with_changes(ack=ack).model_dump_json()

    with pytest.raises(ValidationError):
        TaskRecord.model_validate_json(forged)


def test_an_end_that_the_link_gives_looks_like_an_agent_s() -> None:
    """A caller need not know who has ended its task."""
    lost = end_document(HELD, TaskFailure("agent_lost", "gone", retryable=True), 6.0)
    canceled = end_document(HELD, TaskFailure("canceled", "so"), 6.0)

    assert (lost["state"], lost["error"]["retryable"], lost["attempt"]) == ("failed", True, 1)
    assert canceled["state"] == "canceled"
    assert lost["finished_at"] == "1970-01-01T00:00:06.000000Z"


@pytest.mark.parametrize(
    ("timeout_s", "now_s", "left_s"), [(None, 9.0, None), (3.0, 6.0, 2.0), (3.0, 4.0, 3.0)]
)
def test_waiting_costs_time(timeout_s: float | None, now_s: float, left_s: float | None) -> None:
    """A clock that is behind must not give more time than the caller has."""
    assert seconds_left(timeout_s, 5.0, now_s) == left_s

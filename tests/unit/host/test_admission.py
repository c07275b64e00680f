"""Admission keeps the agent from taking more than it can hold."""

from __future__ import annotations

import pytest

from kagent_sdk.host.admission import QueueLimits, Refusal, admit, retry_after_s

LIMITS = QueueLimits(tasks=2, bytes=100)


@pytest.mark.parametrize("gate", list(Refusal))
def test_a_closed_gate_refuses_with_its_reason(gate: Refusal) -> None:
    """A caller learns why the agent takes nothing, even when there is room."""
    refusal = admit(gate, can_start=True, queued=0, queued_bytes=0, input_bytes=1, limits=LIMITS)

    assert refusal is gate


@pytest.mark.parametrize(
    ("can_start", "queued", "queued_bytes", "input_bytes", "expected"),
    [
        (True, 0, 0, 1000, None),
        (False, 0, 0, 100, None),
        (False, 1, 60, 40, None),
        (False, 1, 60, 41, Refusal.QUEUE_BYTES),
        (False, 2, 0, 1, Refusal.QUEUE_FULL),
        (True, 2, 0, 1, Refusal.QUEUE_FULL),
    ],
)
def test_the_queue_is_bounded_by_number_and_bytes(
    can_start: bool, queued: int, queued_bytes: int, input_bytes: int, expected: Refusal | None
) -> None:
    """What can start needs no room in the queue; what must wait does, behind those there."""
    refusal = admit(
        None,
        can_start=can_start,
        queued=queued,
        queued_bytes=queued_bytes,
        input_bytes=input_bytes,
        limits=LIMITS,
    )

    assert refusal is expected


@pytest.mark.parametrize(
    ("refusal", "queued", "finished_per_s", "expected"),
    [
        (Refusal.QUEUE_FULL, 100, 10.0, 10),
        (Refusal.QUEUE_BYTES, 1, 1000.0, 1),
        (Refusal.QUEUE_FULL, 10_000, 1.0, 60),
        (Refusal.QUEUE_FULL, 100, 0.0, 1),
        (Refusal.DRAINING, 0, 0.0, 5),
        (Refusal.MEMORY, 0, 0.0, 5),
        (Refusal.WORKER_DOWN, 0, 0.0, 1),
    ],
)
def test_retry_after_follows_the_pace_of_the_queue(
    refusal: Refusal, queued: int, finished_per_s: float, expected: int
) -> None:
    """Callers that come back when there is room neither hammer nor idle."""
    assert retry_after_s(refusal, queued=queued, finished_per_s=finished_per_s) == expected

"""Whatever a worker sends: its task gets a definite end, and the host shrugs.

The codec by itself is fuzzed in ``tests/unit/protocol``; here a live host reads from a live worker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagent_sdk.protocol.frames import HEADER, TO_HOST, TO_WORKER, Kind
from tests.agents import Answer, RunningAgent, running_agent
from tests.integration.conftest import copy_rogue
from tests.integration.mischief import ROUNDS, json_values
from tests.integration.vitals import assert_calm, unharmed

pytestmark = pytest.mark.timeout(120 * ROUNDS)

ENVIRONMENT = {
    "AGENT_NAME": "rogue",
    "AGENT_TASKS__DEFAULT_TIMEOUT_S": "2",
    "AGENT_TASKS__CANCEL_GRACE_S": "0.5",
    "AGENT_TASKS__RETENTION_COUNT": "50",
    "AGENT_WORKER__CRASH_LIMIT": "1000000",
    "AGENT_WORKER__BACKOFF_INITIAL_S": "0.01",
    "AGENT_WORKER__BACKOFF_MAX_S": "0.05",
}

START_DEADLINE_S = 20.0

_GOOD: dict[Kind, tuple[bytes, ...]] = {
    Kind.HELLO: (
        b'{"protocol": 1, "sdk_version": "0", "python_version": "3", "pid": 1, "capabilities": []}',
    ),
    Kind.READY: (b"",),
    Kind.HEARTBEAT: (b'{"lag_ms": 0, "running": 0}', b'{"lag_ms": 1e999, "running": 0}'),
    Kind.RESULT: (b"null", b'{"a": 1}', b"", b"not json", b"\xff", b"NaN"),
    Kind.ERROR: (
        b'{"code": "x", "message": "m", "retryable": true, "status": 418, "details": null}',
        b'{"code": "x", "message": "\\ud800", "retryable": true, "status": 500, "details": NaN}',
        b'{"code": "x", "message": "m", "retryable": 1, "status": 200}',
    ),
    Kind.PROGRESS: (
        b'{"fraction": 0.5, "message": "m"}',
        b'{"fraction": NaN, "message": null}',
        b'{"fraction": null, "message": "\\ud800"}',
        b'{"fraction": 2}',
    ),
    Kind.EVENT: (b"1", b'{"a": [1]}', b"", b"{", b"\xed\xa0\x80", b'"\\ud800"'),
    Kind.CALL: (
        b'{"agent": "rogue", "capability": "echo"}\n{"a": 1}',
        b'{"agent": "rogue", "capability": "echo"}\n"\\ud800"',
        b'{"agent": "rogue", "capability": "echo"}',
        b'{"agent": "rogue", "capability": "echo", "timeout_s": NaN}\n1',
        b'{"agent": "rogue", "capability": "echo", "timeout_s": -1}\n1',
        b'{"agent": "rogue", "capability": "echo", "timeout_s": 1e308, "traceparent": "\\n"}\n1',
        b'{"agent": "\\ud800", "capability": "echo"}\n1',
        b'{"agent": "rogue", "capability": ["echo"]}\n1',
        b'{"agent": null, "capability": "echo", "task": 1, "stream": true}\n{"a": 1}',
        b'{"agent": null, "capability": "echo", "task": -1, "labels": {"a": []}}\n1',
        b'{"agent": null, "capability": "echo", "labels": {"a": "b"}, "id": "/"}\n1',
    ),
    Kind.CALL_CANCEL: (b"", b"x"),
    Kind.CALL_ACK: (b"\0\0\0\1", b"\xff\xff\xff\xff", b""),
}
_NESTED = (b"[" * 100_000, b'{"a":' * 5000, b"[" * 500 + b"]" * 500)


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    """One frame: mostly of a kind that a worker may send, about its own task or another."""
    kinds = st.sampled_from(sorted(TO_HOST))
    kind = draw(
        st.one_of(kinds, kinds, kinds, st.sampled_from(sorted(TO_WORKER)), st.integers(0, 255))
    )
    good = _GOOD.get(Kind(kind), (b"",)) if kind in TO_HOST else (b"",)
    payload = draw(
        st.one_of(
            st.sampled_from(good),
            st.sampled_from(good),
            json_values.map(lambda value: json.dumps(value).encode()),
            st.binary(max_size=40),
            st.sampled_from(_NESTED),
        )
    )
    number = draw(st.sampled_from(["own", "own", 0, 1, 7, 2**32, 2**64 - 1]))
    return {"kind": kind, "number": number, "payload": payload.hex()}


raw_bytes = st.one_of(
    st.just(b""),
    st.binary(max_size=60),
    st.sampled_from(
        [
            HEADER.pack(2**32 - 1, Kind.RESULT, 1),
            HEADER.pack(0, 0, 0),
            HEADER.pack(0, Kind.HEARTBEAT, 0) * 3,
            HEADER.pack(1000, Kind.PROGRESS, 1)[:7],
        ]
    ),
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One host, which sees many workers come and go."""
    with running_agent(copy_rogue(tmp_path_factory.mktemp("frames")), env=ENVIRONMENT) as running:
        for _ in range(3):
            send(running, {"frames": [], "raw": "00" * 20})
        running.get("/metrics")
        yield running


@settings(max_examples=60 * ROUNDS)
@given(sent=st.lists(frames(), max_size=6), raw=raw_bytes, is_kept=st.booleans())
def test_any_frames_lead_to_a_definite_end(
    agent: RunningAgent, sent: list[dict[str, Any]], raw: bytes, *, is_kept: bool
) -> None:
    """A worker is the author's process: nothing in its frames is trusted, and none is waited for."""
    answer = send(agent, {"frames": sent, "raw": raw.hex()}, is_kept=is_kept)

    assert 200 <= answer.status < 600
    if answer.status != 200 and answer.json()["code"] == "internal_error":
        pytest.fail(f"{answer}")
    assert_calm(agent)


def test_the_host_is_as_before_after_all_these_frames(agent: RunningAgent) -> None:
    """Whoever read a hundred broken workers holds nothing of any."""
    agent.wait_ready()  # the last of them may be gone: its successor's descriptors count
    with unharmed(agent, may_be_stuck=True):
        for _ in range(5):
            send(agent, {"frames": [], "raw": "ff" * 40})


def send(agent: RunningAgent, task: dict[str, Any], *, is_kept: bool = False) -> Answer:
    """Have the worker send frames; wait for a worker that takes the task first."""
    give_up_at = time.monotonic() + START_DEADLINE_S
    while True:
        if is_kept:
            answer = agent.post("/v1/tasks", {"capability": "send", "input": task})
        else:
            answer = agent.post("/v1/capabilities/send", task)
        if answer.status != 503 or answer.json()["code"] not in ("worker_down", "starting"):
            return answer
        assert time.monotonic() < give_up_at, answer
        time.sleep(0.01)

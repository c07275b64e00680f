"""A worker that floods the host, or does not listen to it, can neither grow nor silence it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from kagent_sdk.protocol.frames import Kind
from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_rogue
from tests.integration.restarts import let_go
from tests.integration.vitals import MEBIBYTE, unharmed, watched_memory
from tests.integration.waiting import wait_until
from tests.integration.wire import build, dial, exchange, split_answers

GROWTH_BYTES = 48 * MEBIBYTE
"""What a flood may cost: buffers of a few mebibytes, and what the allocator makes of them."""

FLOOD_S = 1.0

ENVIRONMENT = {
    "AGENT_NAME": "rogue",
    "AGENT_HTTP__READ_TIMEOUT_S": "60",
    "AGENT_WORKER__CRASH_LIMIT": "1000",
    "AGENT_WORKER__BACKOFF_INITIAL_S": "0.01",
    "AGENT_WORKER__BACKOFF_MAX_S": "0.1",
    "AGENT_TASKS__RETENTION_BYTES": str(MEBIBYTE),
    "AGENT_TASKS__MAX_QUEUE_BYTES": str(8 * MEBIBYTE),
    "AGENT_HEALTH__STALL_WARN_S": "3",
    "AGENT_HEALTH__STALL_FAIL_S": "6",
}


@contextmanager
def rogue_agent(folder: Path, env: dict[str, str] | None = None) -> Iterator[RunningAgent]:
    """Run the agent whose worker keeps to no rule."""
    with running_agent(copy_rogue(folder), env=ENVIRONMENT | (env or {})) as running:
        running.call("echo", {"warm": "x" * MEBIBYTE})
        running.get("/metrics")
        yield running


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all floods: each leaves it as it was."""
    with rogue_agent(tmp_path_factory.mktemp("floods")) as running:
        yield running


@pytest.fixture(scope="module")
def strict_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One that soon replaces a worker that is silent, for torments that end so."""
    env = {"AGENT_HEALTH__STALL_WARN_S": "1.5", "AGENT_HEALTH__STALL_FAIL_S": "3"}
    with rogue_agent(tmp_path_factory.mktemp("strict"), env) as running:
        yield running


def flood(kind: Kind, payload: str, number: int | str = "own") -> bytes:
    """Return the input of a task that sends one frame over and over."""
    task = {"kind": kind, "number": number, "payload": payload, "seconds": FLOOD_S}
    return json.dumps(task).encode()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.EVENT, "1"),
        (Kind.EVENT, json.dumps("e" * 100_000)),
        (Kind.PROGRESS, '{"fraction": 0.5, "message": "m"}'),
        (Kind.PROGRESS, json.dumps({"fraction": 1, "message": "m" * 50_000})),
        (Kind.HEARTBEAT, '{"lag_ms": 0, "running": 0}'),
        (Kind.CALL, '{"agent": "rogue", "capability": "nobody"}\nnull'),
        (Kind.CALL, json.dumps({"agent": "a" * 60_000, "capability": "nobody"}) + "\nnull"),
        (Kind.CALL, '{"agent": "rogue", "capability": "echo"}\n' + json.dumps("i" * 60_000)),
        (Kind.CALL, '{"agent": null, "capability": "echo", "stream": true}\n{"i": 1}'),
        (Kind.CALL_CANCEL, ""),
        (Kind.CALL_ACK, "\0\0\0\1"),
    ],
    ids=[
        "small events",
        "large events",
        "progress",
        "large progress",
        "heartbeats",
        "calls",
        "calls with large answers",
        "calls that are run",
        "calls that stream",
        "cancellations of calls",
        "acknowledgements of items",
    ],
)
def test_a_flood_of_frames_cannot_grow_the_host(
    agent: RunningAgent, strict_agent: RunningAgent, kind: Kind, payload: str
) -> None:
    """Whether the worker is paced, ignored or replaced: the host stays small and answers probes."""
    is_deaf = kind is Kind.CALL
    agent = strict_agent if is_deaf else agent
    with (
        unharmed(agent, slack_bytes=GROWTH_BYTES, may_be_stuck=is_deaf),
        watched_memory(agent) as samples,
    ):
        number = "new" if kind is Kind.CALL else "own"
        answer = agent.post("/v1/capabilities/flood", flood(kind, payload, number))
        agent.wait_ready()

        assert answer.status in (200, 502), answer
        assert max(samples) - samples[0] < GROWTH_BYTES
    assert agent.call("echo", {"still": "here"}) == {"still": "here"}


def test_a_flood_of_events_past_a_reader_that_stands_still(agent: RunningAgent) -> None:
    """The window of unread events is a rule that the host enforces, not a favour that it asks."""
    accept = [("Accept", "text/event-stream")]
    with unharmed(agent, slack_bytes=GROWTH_BYTES), watched_memory(agent) as samples:
        with dial(agent, window=4096) as client:
            request = build("POST", "/v1/capabilities/flood", flood(Kind.EVENT, "1"), accept)
            client.sendall(request)
            client.recv(100)
            wait_until(lambda: agent.status()["tasks"]["working"] == 0)
        agent.wait_ready()

        assert max(samples) - samples[0] < GROWTH_BYTES


@pytest.mark.parametrize("fd", [1, 2])
@pytest.mark.parametrize(
    "text", ["x" * 65536, "\n" * 4096, "\x00\x1b[2J\udcff\n" * 100], ids=["long", "empty", "evil"]
)
def test_a_worker_that_shouts_cannot_grow_or_silence_the_host(
    agent: RunningAgent, fd: int, text: str
) -> None:
    """Garbage without end on stdout and stderr costs log lines, and nothing else."""
    count = 4 * MEBIBYTE // len(text) if len(text) > 4096 else 10
    shout = json.dumps({"fd": fd, "text": text, "count": count}).encode()
    with unharmed(agent), watched_memory(agent) as samples:
        assert agent.post("/v1/capabilities/shout", shout).status == 200

        assert max(samples) - samples[0] < GROWTH_BYTES


def test_inputs_for_a_worker_that_does_not_read_are_bounded(tmp_path: Path) -> None:
    """What waits is bounded by `tasks.max_queue_bytes`; the rest is refused, and nothing is lost."""
    env = {"AGENT_TASKS__MAX_CONCURRENCY": "8"}
    with rogue_agent(tmp_path, env) as agent, unharmed(agent, slack_bytes=GROWTH_BYTES):
        large = build("POST", "/v1/capabilities/echo", b'"%b"' % (b"i" * MEBIBYTE), CLOSE)
        deaf = threading.Thread(target=agent.call, args=("deaf", {"seconds": 3}))
        deaf.start()
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        with watched_memory(agent) as samples, ThreadPoolExecutor(30) as callers:
            raw = list(callers.map(lambda _: exchange(agent, large, 60), range(200)))
        deaf.join()

        statuses = Counter(split_answers(each)[0].status for each in raw)
        assert statuses.keys() == {200, 429}
        # Seven places beside the deaf task, and eight inputs of a mebibyte that wait.
        assert 7 <= statuses[200] <= 7 + 8
        # Thirty that are being read, and fifteen that are held, partly twice: as what came in and
        # as what goes out. All two hundred would be far more.
        assert max(samples) - samples[0] < 100 * MEBIBYTE


def test_a_frame_that_never_ends_is_held_once_and_no_longer(
    strict_agent: RunningAgent,
) -> None:
    """The largest output bounds what a worker can make the host hold for a promise."""
    half = "00" * (64 * 1024)
    task = {"frames": [], "raw": f"{7 * MEBIBYTE:08x}{Kind.EVENT:02x}{1:016x}{half}"}
    with (
        unharmed(strict_agent, slack_bytes=GROWTH_BYTES, may_be_stuck=True),
        watched_memory(strict_agent) as samples,
    ):
        answer = strict_agent.post("/v1/capabilities/send", task, timeout_s=60)

        assert answer.status == 502
        assert max(samples) - samples[0] < GROWTH_BYTES
    strict_agent.wait_ready()  # for the next test: this worker was replaced


def test_large_and_small_events_keep_their_order(agent: RunningAgent) -> None:
    """A large event is checked in a thread: what the worker sent behind it must wait for it."""
    payloads = ["1", json.dumps("e" * 3 * MEBIBYTE), "2", json.dumps("e" * 100_000), "3", "{"]
    frames = [
        {"kind": Kind.EVENT, "number": "own", "payload": payload.encode().hex()}
        for payload in payloads
    ]
    sent = list(agent.stream("send", {"frames": frames, "raw": ""}))
    items = [event.data if event.name == "event" else event.name for event in sent]

    assert sent[-1].data["error"]["code"] == "invalid_output", sent[-1]
    assert [len(item) if isinstance(item, str) else item for item in items if item != "state"] == [
        *(1, 3 * MEBIBYTE, 2, 100_000, 3),
        len("task"),
    ]


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.CALL])
def test_megabytes_from_a_worker_do_not_hold_up_the_probes(agent: RunningAgent, kind: Kind) -> None:
    """Megabytes of brackets take a quarter of a second to check: not in the host's loop."""
    brackets = "[" + "[[[]]]," * (MEBIBYTE * 9 // 16) + "1]"
    head = '{"agent": "rogue", "capability": "nobody"}\n' if kind is Kind.CALL else ""
    frame = {"kind": kind, "number": "own", "payload": (head + brackets).encode().hex()}
    with unharmed(agent, slack_bytes=GROWTH_BYTES):
        answer = agent.post("/v1/capabilities/send", {"frames": [frame], "raw": ""})

        assert answer.status == 200


def test_a_task_that_waited_for_the_worker_to_read_does_not_wait_for_more(subject: Path) -> None:
    """Once the worker has caught up, its free places are given away: nothing else has to happen."""
    with running_agent(subject) as agent, ThreadPoolExecutor(2) as callers:
        (worker,) = agent.worker_pids
        os.kill(worker, signal.SIGSTOP)
        large = {"text": "t" * 4 * MEBIBYTE, "name": "go"}
        first = callers.submit(agent.call, "hold_until", large)
        wait_until(lambda: agent.status()["tasks"]["working"] == 1)
        second = callers.submit(agent.call, "echo", {"text": "waited"})
        wait_until(lambda: agent.status()["tasks"]["queued"] == 1)
        os.kill(worker, signal.SIGCONT)

        assert second.result(20) == "waited"
        assert not first.done()
        let_go(agent, "go")
        assert first.result(20) == 4 * MEBIBYTE


def test_a_worker_that_sends_much_is_not_taken_for_stuck(subject: Path) -> None:
    """Heartbeats stand behind large outputs; what comes is a sign of life, whatever it is."""
    # So many large outputs at once take more than a worker has by default.
    env = {"AGENT_HEALTH__STALL_WARN_S": "2", "AGENT_SANDBOX__LIMITS__MEMORY_BYTES": "null"}
    with running_agent(subject, env=env) as agent, ThreadPoolExecutor(32) as callers:
        request = build("POST", "/v1/capabilities/big", b'{"size": 8000000}', CLOSE)

        def ask(_: int) -> tuple[bytes, bool]:
            raw = exchange(agent, request, 60)
            return raw[: len(b"HTTP/1.1 200")], len(raw) > 8_000_000

        answers = Counter(callers.map(ask, range(32)))

        assert answers == {(b"HTTP/1.1 200", True): 32}
        assert "worker_stalled" not in agent.log_text


CLOSE = [("Connection", "close")]

"""What a task held goes back at its end, at once and whatever its end: no collection is waited for.

Garbage collections come by the number of objects, not by their size: a few cycles that hold megabytes
each would fill a container before the next one is due.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_subject
from tests.integration.vitals import (
    MEBIBYTE,
    assert_calm,
    assert_settles,
    open_tasks,
    take_vitals,
)
from tests.integration.waiting import wait_until
from tests.integration.wire import Header, build, dial, exchange, reset

ROUNDS = 8
PAYLOAD_BYTES = 4_000_000
SLACK_BYTES = 12 * MEBIBYTE
"""Three payloads: eight would be nearly three times as much."""

CLOSE: Header = ("Connection", "close")
EVENTS: Header = ("Accept", "text/event-stream")
TEXT = b'"' + b"x" * PAYLOAD_BYTES + b'"'
ITEMS = b'{"n": 40, "size": 100000}'

Round = Callable[[RunningAgent], None]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent that keeps next to nothing of finished tasks."""
    env = {"AGENT_TASKS__RETENTION_BYTES": str(MEBIBYTE)}
    with running_agent(copy_subject(tmp_path_factory.mktemp("memory")), env=env) as running:
        for _ in range(3):
            for ending in ENDINGS.values():
                ending(running)
        yield running


def post(path: str, body: bytes, *headers: Header) -> Round:
    """Return a round in which a caller sends a request and reads the answer to its end."""

    def play(agent: RunningAgent) -> None:
        exchange(agent, build("POST", path, body, [*headers, CLOSE]), 60)

    return play


def leave(path: str, body: bytes, *headers: Header, after_bytes: int = 0) -> Round:
    """Return a round in which a caller vanishes: while the task runs, or amid its answer."""

    def play(agent: RunningAgent) -> None:
        with dial(agent, window=4096) as client:
            client.sendall(build("POST", path, body, headers))
            if after_bytes:
                assert client.recv(after_bytes)
            else:
                wait_until(lambda: agent.status()["tasks"]["working"] > 0)
            reset(client)
        wait_until(lambda: agent.status()["tasks"]["working"] == 0)

    return play


def conflict(agent: RunningAgent) -> None:
    """Send another input for an id that is taken."""
    for text in ("a", "b" * PAYLOAD_BYTES):
        agent.post("/v1/tasks", {"id": "taken", "capability": "echo", "input": {"text": text}})


def follow(agent: RunningAgent) -> None:
    """Follow a kept stream from two places at once."""
    body = {"capability": "count", "input": json.loads(ITEMS)}
    started = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
    events = f"{started.headers['Location']}/events"
    readers = [threading.Thread(target=agent.get, args=(events,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


CALLS = "/v1/capabilities"
ENDINGS: dict[str, Round] = {
    "output": post(f"{CALLS}/big", b'{"size": %d}' % PAYLOAD_BYTES),
    "kept output": post(
        "/v1/tasks", b'{"capability": "big", "input": {"size": %d}}' % PAYLOAD_BYTES
    ),
    "input and output": post(f"{CALLS}/echo", b'{"text": %b}' % TEXT),
    "own call": post(f"{CALLS}/call_self", b'{"text": %b}' % TEXT),
    "stream": post(f"{CALLS}/count", ITEMS, EVENTS),
    "stream as array": post(f"{CALLS}/count", ITEMS),
    "kept stream": post("/v1/tasks", b'{"capability": "count", "input": %b}' % ITEMS),
    "followed stream": follow,
    "input that does not fit": post(f"{CALLS}/nap", b'{"seconds": %b}' % TEXT),
    "input that is no JSON": post(f"{CALLS}/echo", TEXT[:-1]),
    "envelope that is no JSON": post("/v1/tasks", b'{"capability": "echo", "input": %b' % TEXT),
    "unknown capability": post("/v1/tasks", b'{"capability": "ecco", "input": %b}' % TEXT),
    "body over the limit": post(f"{CALLS}/echo", TEXT[:-1] * 3),
    "conflict": conflict,
    "timeout": post(
        "/v1/tasks",
        b'{"capability": "hold", "timeout_s": 0.1, "input": {"text": %b, "seconds": 9}}' % TEXT,
    ),
    "caller that leaves the task": leave(f"{CALLS}/hold", b'{"text": %b, "seconds": 60}' % TEXT),
    "caller that leaves the answer": leave(
        f"{CALLS}/big", b'{"size": %d}' % PAYLOAD_BYTES, after_bytes=1000
    ),
    "caller that leaves the stream": leave(
        f"{CALLS}/count", b'{"n": 1000, "size": 100000}', EVENTS, after_bytes=1000
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_task_held_goes_back_at_its_end(agent: RunningAgent, ending: str) -> None:
    """A host that waited for its collector would be killed for the memory of what is long done."""
    before = take_vitals(agent)
    for _ in range(ROUNDS):
        ENDINGS[ending](agent)
    wait_until(  # for the last connection to be gone
        lambda: not open_tasks(agent) and take_vitals(agent).descriptors <= before.descriptors
    )

    assert take_vitals(agent).memory_bytes - before.memory_bytes < SLACK_BYTES
    assert_settles(agent, before, slack_bytes=SLACK_BYTES)
    assert_calm(agent)

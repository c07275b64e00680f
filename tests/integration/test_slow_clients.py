"""A client that stands still costs a bounded amount for a bounded time, and hinders nobody."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_subject
from tests.integration.restarts import let_go
from tests.integration.vitals import (
    MEBIBYTE,
    assert_calm,
    assert_settles,
    open_tasks,
    take_vitals,
    unharmed,
    watched_memory,
)
from tests.integration.waiting import wait_until
from tests.integration.wire import (
    build,
    dial,
    exchange,
    is_closed_within,
    read_all,
    reset,
    split_answers,
)

CUT_OFF_S = 30.0
"""A generous deadline for what ``http.read_timeout_s`` of 1 s cuts off."""

MAX_UNSENT_BYTES = 256 * MEBIBYTE
"""What the control plane may hold for clients that do not read, all together."""

FRAGMENTS_BYTES = 48 * MEBIBYTE
"""Large answers, and what the allocator keeps of the room that they took."""

CHUNKED = build("POST", "/v1/tasks", headers=[("Transfer-Encoding", "chunked")])

QUICK = {"AGENT_HTTP__READ_TIMEOUT_S": "1"}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One impatient agent for all tests here that need no other settings."""
    with impatient_agent(tmp_path_factory.mktemp("slow"), {}) as running:
        running.call("big", {"size": 8 * MEBIBYTE - 100})
        yield running


@contextmanager
def impatient_agent(folder: Path, env: dict[str, str]) -> Iterator[RunningAgent]:
    """Run the subject with a short ``http.read_timeout_s``."""
    with running_agent(copy_subject(folder), env=QUICK | env) as running:
        running.get("/metrics")
        yield running


BEGINNINGS = {
    "nothing": b"",
    "line": b"GET /healthz",
    "head": b"POST /v1/capabilities/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le",
    "body": build("POST", "/v1/capabilities/echo", b'{"text": "never sent to its end"}')[:-5],
    "chunks": CHUNKED + b'5\r\n{"cap\r\n',
}


def test_a_request_that_never_ends_is_cut_off(agent: RunningAgent) -> None:
    """A place among the connections is for those who say what they want."""
    with unharmed(agent), ExitStack() as stack:
        waiting = {}
        for name, beginning in BEGINNINGS.items():
            client = stack.enter_context(dial(agent))
            waiting[client] = (name, time.monotonic())
            client.sendall(beginning)
        while waiting:
            ready = select.select([*waiting], [], [], CUT_OFF_S)[0]
            assert ready, waiting.values()
            for client in ready:
                name, began = waiting.pop(client)
                assert time.monotonic() - began > 0.5, name
                assert is_closed_within(client, CUT_OFF_S), name


def test_a_body_that_drips_is_cut_off(agent: RunningAgent) -> None:
    """A byte now and then does not buy more time."""
    request = build("POST", "/v1/capabilities/echo", b'{"text": "' + b"x" * 10_000 + b'"}')
    with unharmed(agent), dial(agent) as client:
        client.sendall(request[:-9000])
        drip(client, request[-9000:], until_s=CUT_OFF_S)

        answer = split_answers(read_all(client))
        assert [each.status for each in answer] in ([408], [])


def test_a_head_that_drips_is_cut_off(agent: RunningAgent) -> None:
    """Slowloris: a header line now and then holds no connection for ever."""
    with unharmed(agent), dial(agent) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        began = time.monotonic()
        drip(client, b"X: y\r\n" * 1000, until_s=CUT_OFF_S)

        assert time.monotonic() - began < CUT_OFF_S


def test_a_slow_but_steady_client_is_served(agent: RunningAgent) -> None:
    """Patience within the limit: a request in thirty parts is a request."""
    request = build("POST", "/v1/capabilities/echo", b'{"text": "slow"}', [("Connection", "close")])
    with dial(agent) as client:
        for start in range(0, len(request), len(request) // 30):
            client.sendall(request[start : start + len(request) // 30])
            time.sleep(0.005)

        (answer,) = split_answers(read_all(client))
        assert (answer.status, answer.json()) == (200, "slow")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(agent: RunningAgent) -> None:
    """A client such as curl asks before it sends a large body, and waits a second when nobody answers."""
    body = b'{"text": "large"}'
    request = build(
        "POST", "/v1/capabilities/echo", body, [("Expect", "100-continue"), ("Connection", "close")]
    )
    with dial(agent) as client:
        client.sendall(request[: -len(body)])
        interim = client.recv(100)
        client.sendall(body)
        (answer,) = split_answers(read_all(client))

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.json() == "large"


def test_clients_that_do_not_read_big_answers_cannot_grow_the_host(agent: RunningAgent) -> None:
    """Fifty deaf clients want 400 MB; each is cut off, and everybody else is served."""
    with unharmed(agent, slack_bytes=FRAGMENTS_BYTES) as before, ExitStack() as stack:
        samples = stack.enter_context(watched_memory(agent))
        clients = [stack.enter_context(dial(agent, window=4096)) for _ in range(50)]
        for client in clients:
            client.sendall(build("POST", "/v1/capabilities/big", b'{"size": 8000000}'))
        wait_until(lambda: open_tasks(agent) == 0)
        assert agent.call("echo", {"text": "others"}) == "others"
        wait_until(lambda: take_vitals(agent).descriptors <= before.descriptors)

        assert max(samples) - samples[0] < MAX_UNSENT_BYTES


def test_a_client_that_pipelines_and_does_not_read_cannot_grow_the_host(
    agent: RunningAgent,
) -> None:
    """One connection holds one unread answer, however many requests stand behind it."""
    request = build("POST", "/v1/capabilities/big", b'{"size": 2000000}')
    with unharmed(agent, slack_bytes=FRAGMENTS_BYTES) as before, ExitStack() as stack:
        samples = stack.enter_context(watched_memory(agent))
        client = stack.enter_context(dial(agent, 0.5, window=4096))
        push_until_full(client, request * 200)
        wait_until(lambda: take_vitals(agent).descriptors <= before.descriptors)

        assert max(samples) - samples[0] < FRAGMENTS_BYTES


def test_streams_that_nobody_reads_pace_their_workers_and_end(agent: RunningAgent) -> None:
    """The host holds a window of each stream; then the client is cut off and the task cancelled."""
    body = b'{"n": 100000, "size": 100000}'
    with unharmed(agent, slack_bytes=FRAGMENTS_BYTES), ExitStack() as stack:
        canceled = agent.status()["tasks"]["canceled"]
        samples = stack.enter_context(watched_memory(agent))
        clients = [stack.enter_context(dial(agent, window=4096)) for _ in range(10)]
        for client in clients:
            accept = [("Accept", "text/event-stream")]
            client.sendall(build("POST", "/v1/capabilities/count", body, accept))
        wait_until(lambda: agent.status()["tasks"]["canceled"] == canceled + 10)
        assert all(is_closed_within(client, CUT_OFF_S) for client in clients)

        # Each holds a window of events, what was joined to be written, and what is being written.
        assert max(samples) - samples[0] < 10 * 3 * 4 * MEBIBYTE + 32 * MEBIBYTE


def test_no_more_than_so_many_connections_at_a_time(tmp_path: Path) -> None:
    """``http.max_connections`` holds, but not for probes; a place that is left is free again."""
    nap = build("POST", "/v1/capabilities/nap", b'{"seconds": 300}')
    env = {"AGENT_HTTP__MAX_CONNECTIONS": "20", "AGENT_TASKS__MAX_CONCURRENCY": "32"}
    with impatient_agent(tmp_path, env) as agent, ExitStack() as stack:
        before = take_vitals(agent)
        busy = [stack.enter_context(dial(agent)) for _ in range(19)]
        for client in busy:
            client.sendall(nap)
        wait_until(lambda: open_tasks(agent) == 19)
        last = stack.enter_context(dial(agent))
        last.sendall(nap)
        wait_until(lambda: take_vitals(agent).descriptors >= before.descriptors + 20)
        refused = [stack.enter_context(dial(agent)) for _ in range(30)]
        for client in refused:
            push_until_full(client, build("GET", "/v1/tasks"))

        assert all(is_closed_within(client, CUT_OFF_S) for client in refused)
        for route in ("/healthz", "/readyz"):
            (answer,) = split_answers(exchange(agent, build("GET", route)))
            assert answer.status == 200
        assert exchange(agent, build("GET", "/status")) == b""
        reset(last)
        wait_until(lambda: take_vitals(agent).descriptors == before.descriptors + 19)
        assert agent.call("echo", {"text": "a place"}) == "a place"
        for client in busy:
            reset(client)
        assert_settles(agent, before)
        assert_calm(agent)


def test_clients_that_take_all_connections_leave_room_for_a_new_worker(subject: Path) -> None:
    """Descriptors are for clients and workers: a crowd must not turn one crash into the last."""
    limited = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'kagent_sdk', 'run', sys.argv[1]])\n"
    )
    with (
        running_agent(subject, arguments=["-c", limited, str(subject)]) as agent,
        ExitStack() as stack,
    ):
        (worker,) = agent.worker_pids
        for _ in range(150):
            client = stack.enter_context(dial(agent))
            push_until_full(client, build("POST", "/v1/capabilities/nap", b'{"seconds": 60}')[:-3])
        wait_until(lambda: take_vitals(agent).descriptors > 70)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: agent.log_text.count("worker_ready") == 2)

        wait_until(lambda: "connections_limited" in agent.log_text)
        assert take_vitals(agent).descriptors < 200
        stack.close()
        wait_until(lambda: take_vitals(agent).descriptors < 30)
        assert agent.call("echo", {"text": "still here"}) == "still here"


def test_a_task_promised_to_one_caller_outlives_another(agent: RunningAgent) -> None:
    """202 is a promise: a second caller who waits for the same id and leaves cannot break it."""
    body = {"id": "promised", "capability": "wait_for", "input": {"name": "go"}}
    promised = agent.post("/v1/tasks", body, headers={"Prefer": "respond-async"})
    with dial(agent) as client:
        client.sendall(build("POST", "/v1/tasks", json.dumps(body).encode()))
        time.sleep(0.3)  # lets it wait; nothing outside shows that it does
        reset(client)
    # Whoever comes later is heard later: the host knows by then that the client has left.
    assert agent.call("echo", {"text": "next"}) == "next"
    let_go(agent, "go")

    assert promised.status == 202
    assert agent.get("/v1/tasks/promised?wait_s=10").json()["state"] == "completed"


def drip(client: socket.socket, data: bytes, *, until_s: float) -> None:
    """Send byte by byte until all is sent, or the other side closes; fail when neither comes."""
    give_up_at = time.monotonic() + until_s
    for byte in data:
        assert time.monotonic() < give_up_at, "still listened to"
        try:
            client.sendall(bytes([byte]))
        except ConnectionError:
            return
        time.sleep(0.05)


def push_until_full(client: socket.socket, data: bytes) -> None:
    """Send as much as the other side takes."""
    try:
        client.sendall(data)
    except (TimeoutError, ConnectionError):
        return

"""A plain call is answered past aiohttp's jobs, and nobody can tell but by the clock."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_subject
from tests.integration.restarts import let_go
from tests.integration.vitals import assert_calm, open_tasks
from tests.integration.waiting import wait_until
from tests.integration.wire import (
    READ_S,
    Header,
    WireAnswer,
    build,
    dial,
    exchange,
    is_closed_within,
    read_all,
    reset,
    split_answers,
)

ROUTE = "/v1/capabilities/{name}"
ORDINARY: Sequence[Header] = (("Prefer", "nothing"),)
"""A wish that changes nothing, but leads the ordinary way."""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all tests here that leave it running."""
    with running_agent(copy_subject(tmp_path_factory.mktemp("direct"))) as running:
        yield running
        assert_calm(running)


def call(name: str, headers: Sequence[Header] = (), /, **input: object) -> bytes:
    """Return the request of a plain call."""
    return build("POST", f"/v1/capabilities/{name}", json.dumps(input).encode(), headers)


def echo(text: str, headers: Sequence[Header] = ()) -> bytes:
    """Return a request that is answered with its text."""
    return call("echo", headers, text=text)


def receive(client: socket.socket, count: int, deadline_s: float = READ_S) -> list[WireAnswer]:
    """Read that many whole answers, and nothing more."""
    raw, give_up_at = b"", time.monotonic() + deadline_s
    while True:
        try:
            answers = split_answers(raw)
        except (AssertionError, ValueError):
            answers = []
        if len(answers) >= count:
            assert len(answers) == count
            return answers
        client.settimeout(max(0.001, give_up_at - time.monotonic()))
        part = client.recv(65536)
        assert part, f"closed after {raw!r}"
        raw += part


def holds(agent: RunningAgent, count: int) -> bool:
    """Tell whether that many tasks are open."""
    return open_tasks(agent) == count


def texts(answers: Sequence[WireAnswer]) -> list[object]:
    """Return the bodies; every answer must be a 200."""
    assert [answer.status for answer in answers] == [200] * len(answers)
    return [answer.json() for answer in answers]


def answered(agent: RunningAgent, status: int) -> int:
    """Return how many calls were answered so, by the host's own count."""
    text = agent.get("/metrics").body.decode()
    pattern = rf'^\S*requests\S*{{[^}}]*{re.escape(ROUTE)}[^}}]*"{status}"[^}}]*}} ([0-9.e+]+)$'
    return sum(int(float(count)) for count in re.findall(pattern, text, re.MULTILINE))


def test_thirty_requests_on_one_connection(agent: RunningAgent) -> None:
    """Keep-alive is what it is for; the count of answers is that of the requests."""
    before = answered(agent, 200)
    with dial(agent) as client:
        for number in range(30):
            client.sendall(echo(f"{number}"))

            assert texts(receive(client, 1)) == [f"{number}"]
    assert answered(agent, 200) == before + 30


def test_pipelined_requests_are_answered_in_order(agent: RunningAgent) -> None:
    """A later one that is quicker must wait for its turn (RFC 9112, 9.3.2)."""
    with dial(agent) as client:
        client.sendall(call("nap", seconds=0.4))
        time.sleep(0.1)  # the next ones shall find it at work
        client.sendall(echo("a") + echo("b", ORDINARY))
        time.sleep(0.1)
        client.sendall(build("GET", "/healthz") + echo("c"))

        bodies = [answer.body for answer in receive(client, 5)]
    assert [bodies[0], bodies[1], bodies[2], bodies[4]] == [b"1", b'"a"', b'"b"', b'"c"']
    assert json.loads(bodies[3])["status"] == "ok"


def test_more_pipelined_requests_than_the_queue_holds(agent: RunningAgent) -> None:
    """Behind a call that takes its time the connection is read no further, and loses nothing."""
    with dial(agent) as client:
        client.sendall(call("nap", seconds=0.3))
        time.sleep(0.1)  # as above
        client.sendall(b"".join(echo(f"{number}") for number in range(200)))

        answers = receive(client, 201)
    assert texts(answers) == [1, *(f"{number}" for number in range(200))]


@pytest.mark.parametrize("part", [1, 10, 27, 60, -1])
def test_a_request_in_two_packets_is_one_request(agent: RunningAgent, part: int) -> None:
    """Where the network cuts is nobody's choice: in the line, in the head, in the body."""
    request = echo("in two")
    with dial(agent) as client:
        client.sendall(echo("before"))
        receive(client, 1)
        for _ in range(2):
            client.sendall(request[:part])
            time.sleep(0.05)  # so that they come apart
            client.sendall(request[part:])

            assert texts(receive(client, 1)) == ["in two"]


def test_a_body_after_its_head_and_one_with_half_of_the_next_request(agent: RunningAgent) -> None:
    """The bytes of one read need not end where a request does."""
    head, _, body = echo("x" * 200_000).partition(b"\r\n\r\n")
    following = echo("next")
    with dial(agent) as client:
        client.sendall(head + b"\r\n\r\n")
        time.sleep(0.05)  # as above
        client.sendall(body)
        assert texts(receive(client, 1)) == ["x" * 200_000]
        client.sendall(echo("first") + following[:30])
        assert texts(receive(client, 1)) == ["first"]
        client.sendall(following[30:])

        assert texts(receive(client, 1)) == ["next"]


@pytest.mark.parametrize(
    "leave", [reset, socket.socket.close, lambda client: client.shutdown(socket.SHUT_WR)]
)
@pytest.mark.parametrize("behind", [b"", echo("behind")], ids=["alone", "with another behind"])
def test_a_client_that_leaves_cancels_its_task(
    agent: RunningAgent, leave: object, behind: bytes
) -> None:
    """Nobody reads the answer: the work would be for nothing."""
    before, canceled = answered(agent, 499), agent.status()["tasks"]["canceled"]
    client = dial(agent)
    client.sendall(call("nap", seconds=60))
    wait_until(lambda: open_tasks(agent) == 1)
    client.sendall(behind)
    assert callable(leave)
    leave(client)

    wait_until(lambda: open_tasks(agent) == 0, 30)
    assert agent.status()["tasks"]["canceled"] == canceled + 1
    assert answered(agent, 499) == before + 1
    client.close()


def test_a_client_that_leaves_a_detached_task_lets_it_go_on(agent: RunningAgent) -> None:
    """``on_disconnect="detach"`` says so."""
    before = agent.status()["tasks"]
    client = dial(agent)
    client.sendall(call("detached_wait_for", name="go"))
    wait_until(lambda: open_tasks(agent) == 1)
    reset(client)
    # Whoever comes later is heard later: the host knows by then that the client has left.
    assert agent.call("echo", {"text": "next"}) == "next"
    left = open_tasks(agent)
    let_go(agent, "go")
    wait_until(lambda: open_tasks(agent) == 0)
    after = agent.status()["tasks"]

    assert left == 1
    assert after["completed"] == before["completed"] + 2
    assert after["canceled"] == before["canceled"]


@pytest.mark.parametrize(
    "input",
    [
        {"kind": "task_error"},
        {"kind": "other"},
        {"wrong": "input"},
    ],
)
def test_a_failed_task_is_answered_like_on_the_ordinary_way(
    agent: RunningAgent, input: dict[str, object]
) -> None:
    """Byte by byte, but for the date; and the connection stays open for the next."""
    with dial(agent) as client:
        client.sendall(call("fail", **input))
        time.sleep(0.05)
        client.sendall(echo("behind"))
        direct, behind = receive(client, 2)
        client.sendall(call("fail", ORDINARY, **input))
        (ordinary,) = receive(client, 1)

        before = answered(agent, direct.status)
        client.sendall(call("fail", **input))
        receive(client, 1)

    assert behind.json() == "behind"
    assert direct.status == ordinary.status >= 400
    assert masked(direct) == masked(ordinary)
    assert answered(agent, direct.status) == before + 1


def masked(answer: WireAnswer) -> tuple[dict[str, str], str]:
    """Return head and body without what differs from one task to the next."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return headers, re.sub(r"[0-9a-f]{8}-?[0-9a-f-]{8,}", "ID", answer.body.decode())


@pytest.mark.parametrize(
    "request_bytes",
    [
        call("no_such_capability"),
        echo("x", [("Origin", "http://evil.example")]),
        echo("x", [("Idempotency-Key", "not a key")]),
        echo("x", [("Content-Encoding", "gzip")]),
        build("POST", "/v1/capabilities/echo", b"{not json"),
        build("POST", "/v1/capabilities/echo"),
        b"POST /v1/capabilities/echo HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/capabilities/echo HTTP/1.1\r\n\r\n",
    ],
)
def test_a_wrong_request_is_refused_with_a_problem(
    agent: RunningAgent, request_bytes: bytes
) -> None:
    """Whatever way it came in."""
    with dial(agent) as client:
        client.sendall(request_bytes)
        (answer,) = receive(client, 1)

    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["Connection: close", ""])
def test_who_wants_the_connection_closed_gets_it_closed(agent: RunningAgent, header: str) -> None:
    """Connection: close, and HTTP/1.0, which closes unless asked not to."""
    request = echo("bye", [("Connection", "close")] if header else ())
    if not header:
        request = request.replace(b"HTTP/1.1", b"HTTP/1.0")

    assert texts(split_answers(exchange(agent, request))) == ["bye"]


def test_streams_keys_and_odd_forms_take_the_ordinary_way(agent: RunningAgent) -> None:
    """On the same connection, in turn with plain calls."""
    with dial(agent) as client:
        client.sendall(call("count", n=3))
        assert texts(receive(client, 1)) == [[0, 1, 2]]
        client.sendall(echo("kept", [("Idempotency-Key", "direct-1")]))
        assert texts(receive(client, 1)) == ["kept"]
        client.sendall(echo("query").replace(b"echo HTTP", b"echo?x=1 HTTP"))
        assert texts(receive(client, 1)) == ["query"]
        client.sendall(echo("coded").replace(b"/echo HTTP", b"/%65cho HTTP"))
        assert texts(receive(client, 1)) == ["coded"]
        client.sendall(build("GET", "/v1/capabilities/echo"))
        assert receive(client, 1)[0].status == 405
        client.sendall(echo("plain"))
        assert texts(receive(client, 1)) == ["plain"]
    assert agent.get("/v1/tasks/direct-1").json()["state"] == "completed"


def test_a_call_longer_than_the_patience_for_a_request(tmp_path: Path) -> None:
    """The time that a connection may stand idle does not run while a task does; then it does."""
    with running_agent(copy_subject(tmp_path), env={"AGENT_HTTP__READ_TIMEOUT_S": "1"}) as agent:
        with dial(agent) as client:
            client.sendall(call("nap", seconds=1.5))
            assert texts(receive(client, 1)) == [1]
            assert not is_closed_within(client, 1.5)
            client.sendall(echo("still here"))
            assert texts(receive(client, 1)) == ["still here"]
        assert_calm(agent)


def test_a_refused_call_is_answered_and_counted_once(tmp_path: Path) -> None:
    """429 is the answer under load: it must be right there of all places."""
    env = {"AGENT_TASKS__MAX_QUEUE": "1"}
    with ExitStack() as stack:
        agent = stack.enter_context(running_agent(copy_subject(tmp_path), env=env))
        naps = [stack.enter_context(dial(agent)) for _ in range(2)]
        for number, client in enumerate(naps):
            client.sendall(call("single_nap", seconds=60))
            wait_until(partial(holds, agent, number + 1))
        with dial(agent) as client:
            client.sendall(call("single_nap", seconds=60))
            (direct,) = receive(client, 1)
            rejected = agent.status()["tasks"]["rejected"]
            client.sendall(call("single_nap", ORDINARY, seconds=60))
            (ordinary,) = receive(client, 1)

        assert direct.status == ordinary.status == 429
        assert direct.headers["retry-after"]
        assert direct.json()["code"] == ordinary.json()["code"]
        assert rejected == 1
        assert answered(agent, 429) == 2
        for client in naps:
            client.close()
        wait_until(lambda: open_tasks(agent) == 0)
        assert_calm(agent)


def test_sigterm_while_direct_answers_are_due(tmp_path: Path) -> None:
    """Those that can finish do; those that cannot are told so; none is cut off."""
    env = {"AGENT_SHUTDOWN__GRACE_S": "6"}
    with ExitStack() as stack:
        agent = stack.enter_context(running_agent(copy_subject(tmp_path), env=env))
        short, long = (stack.enter_context(dial(agent)) for _ in range(2))
        short.sendall(call("nap", seconds=1))
        long.sendall(call("nap", seconds=60))
        wait_until(lambda: open_tasks(agent) == 2)
        os.kill(agent.pid, signal.SIGTERM)
        (finished,) = split_answers(read_all(short))
        (canceled,) = split_answers(read_all(long))
        code = agent.wait()

        assert (finished.status, finished.json()) == (200, 1)
        assert canceled.status >= 400
        assert canceled.json()["error"]["code"] == "canceled"
        assert code == 0
        assert_calm(agent)

"""Whatever comes over the wire: each request gets a definite answer, and the host shrugs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.agents import RunningAgent, running_agent
from tests.integration import mischief
from tests.integration.conftest import copy_subject
from tests.integration.vitals import unharmed
from tests.integration.wire import (
    Header,
    build,
    dial,
    exchange,
    read_all,
    read_answer,
    reset,
    split_answers,
)

pytestmark = pytest.mark.timeout(120 * mischief.ROUNDS)

CLOSE: Header = ("Connection", "close")
BY_DESIGN = frozenset({503, 504})
"""The answers over 499 that a caller alone can bring about; 502 would be a dead worker."""

ENVIRONMENT = {
    "AGENT_HTTP__READ_TIMEOUT_S": "1",
    "AGENT_HTTP__MAX_BODY_BYTES": str(1024 * 1024),
    "AGENT_TASKS__DEFAULT_TIMEOUT_S": "0.5",
    "AGENT_TASKS__MAX_TIMEOUT_S": "0.5",
    # What is kept of finished tasks is no leak; small, so that it is all there soon.
    "AGENT_TASKS__RETENTION_COUNT": "50",
    "AGENT_TASKS__RETENTION_BYTES": str(1024 * 1024),
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all the torments: each must leave it as it was."""
    folder = copy_subject(tmp_path_factory.mktemp("fuzz"))
    with running_agent(folder, env=ENVIRONMENT) as running:
        # To close a reader's descriptor would drop the process's locks on the file (fcntl(2)), so
        # SQLite keeps it for the next reader: the first snapshot costs one for good.
        assert running.post("/v1/snapshots").status == 201
        warm_up(running)
        yield running


@pytest.fixture(autouse=True)
def _same_worker(agent: RunningAgent) -> Iterator[None]:
    """Nothing that a caller sends ends the worker, and probes are answered all the while."""
    worker = agent.worker_pids
    with unharmed(agent):
        yield
    assert agent.worker_pids == worker
    assert agent.call("echo", {"text": "still here"}) == "still here"


@settings(max_examples=150 * mischief.ROUNDS)
@given(route=st.sampled_from(mischief.POST_ROUTES), body=mischief.bodies, closing=st.booleans())
def test_any_body_gets_a_definite_answer(
    agent: RunningAgent, route: str, body: bytes, *, closing: bool
) -> None:
    """Malformed, cut, huge, deep, not UTF-8, keys twice: the caller is told, and nobody else."""
    if closing:
        assert_definite(exchange(agent, build("POST", route, body, [CLOSE])))
    else:
        assert_in_step(agent, build("POST", route, body))


@settings(max_examples=300 * mischief.ROUNDS)
@given(
    method=st.sampled_from(["GET", "POST"]),
    route=st.integers(0, 8),
    headers=mischief.headers,
    closing=st.booleans(),
)
@example(method="POST", route=0, headers=[("traceparent", mischief.TRACE_NOT_UTF8)], closing=False)
@example(method="POST", route=1, headers=[("traceparent", mischief.TRACE_NOT_UTF8)], closing=True)
@example(method="GET", route=8, headers=[("Last-Event-ID", "99")], closing=True)
@example(method="GET", route=8, headers=[("Last-Event-ID", "2")], closing=False)
def test_any_header_gets_a_definite_answer(
    agent: RunningAgent, method: str, route: int, headers: list[Header], *, closing: bool
) -> None:
    """A header is judged, or ignored, but never trusted."""
    target, body = mischief.GET_ROUTES[route], None
    if method == "POST":
        target = mischief.POST_ROUTES[3 if route % 2 else 0]
        body = mischief.GOOD_BODIES[3 if route % 2 else 0]
    if closing:
        assert_definite(exchange(agent, build(method, target, body, [*headers, CLOSE])))
    else:
        assert_in_step(agent, build(method, target, body, headers))


@settings(max_examples=400 * mischief.ROUNDS)
@given(method=mischief.methods, target=mischief.targets())
@example(method="HEAD", target="/v1/tasks/known/events")
def test_any_method_and_target_gets_a_definite_answer(
    agent: RunningAgent, method: str, target: str
) -> None:
    """A path is matched or not; it never reaches anything else."""
    assume("shutdown" not in target)
    raw = exchange(agent, build(method, target, headers=[CLOSE]))
    assert_definite(raw, is_head=method == "HEAD")


@settings(max_examples=4 * mischief.ROUNDS)  # each waits for http.read_timeout_s, once for all
@given(requests=st.lists(mischief.misframed(), min_size=30, max_size=60))
def test_lies_about_the_length_are_found_out(agent: RunningAgent, requests: list[bytes]) -> None:
    """What a head announces and never comes is cut off in time; what is broken is refused."""
    with dialled(agent, len(requests)) as clients:
        for client, request in zip(clients, requests, strict=True):
            push(client, request)
        for client in clients:
            assert_definite(read_all(client))


@settings(max_examples=8 * mischief.ROUNDS)
@given(blobs=st.lists(mischief.garbage, min_size=10, max_size=30))
def test_bytes_that_are_no_http_end_the_connection(agent: RunningAgent, blobs: list[bytes]) -> None:
    """A TLS client, a port scanner, a stray cat: one answer at the most, and goodbye."""
    with dialled(agent, len(blobs)) as clients:
        for client, blob in zip(clients, blobs, strict=True):
            push(client, blob)
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            raw = read_all(client)
            if raw:
                assert_definite(raw)


Visit = tuple[bytes, list[int], str]


@st.composite
def visits(draw: st.DrawFn) -> Visit:
    """A request, the points at which it is cut into parts, and how the client leaves."""
    request = draw(mischief.requests())
    cuts = sorted(draw(st.lists(st.integers(0, len(request)), max_size=4)))
    return request, cuts, draw(st.sampled_from(["stay", "reset", "close", "half", "deaf"]))


@settings(max_examples=12 * mischief.ROUNDS)
@given(crowd=st.lists(visits(), min_size=10, max_size=30), where=st.integers(0, 4))
def test_clients_vanish_at_any_point(agent: RunningAgent, crowd: list[Visit], where: int) -> None:
    """Mid-head, mid-body, mid-answer, mid-stream: the place is free again, the task has its end."""
    with dialled(agent, len(crowd)) as clients:
        for number in range(5):
            for client, (request, cuts, ending) in zip(clients, crowd, strict=True):
                edges = [0, *cuts, *[len(request)] * (5 - len(cuts))]
                push(client, request[edges[number] : edges[number + 1]])
                if number == where:
                    leave(client, ending)
            time.sleep(0.005)  # lets the host see the parts one by one
        for client, (_, _, ending) in zip(clients, crowd, strict=True):
            if ending == "stay":
                answer = read_answer(client)
                assert answer is None or answer.status < 500, answer


@settings(max_examples=10 * mischief.ROUNDS)
@given(
    requests=st.lists(
        st.sampled_from([*mischief.GET_ROUTES[:7]]).map(lambda route: build("GET", route))
        | st.sampled_from(mischief.GOOD_BODIES).map(
            lambda body: build("POST", "/v1/capabilities/echo", body)
        ),
        min_size=2,
        max_size=60,
    ),
    in_one_packet=st.booleans(),
)
def test_pipelined_requests_are_answered_in_order(
    agent: RunningAgent, requests: list[bytes], *, in_one_packet: bool
) -> None:
    """Many requests at once are many answers on one connection, and no mix-up."""
    last = build("GET", "/healthz", headers=[CLOSE])
    with dial(agent) as client:
        if in_one_packet:
            client.sendall(b"".join([*requests, last]))
        else:
            for request in (*requests, last):
                client.sendall(request)
                time.sleep(0.0005)  # lets the host see it before the next one
        raw = read_all(client)

    answers = split_answers(raw)
    assert len(answers) == len(requests) + 1
    for request, answer in zip(requests, answers, strict=False):
        is_echo = request.endswith(mischief.GOOD_BODIES[0])
        assert (answer.body == b'"h\xc3\xa9 \xc3\xa9"') == is_echo, (request, answer)


def warm_up(agent: RunningAgent) -> None:
    """Let the agent do everything once, so that what it loads then is no growth later."""
    for body in mischief.STRANGE_BODIES:
        exchange(agent, build("POST", "/v1/tasks", body, [CLOSE]))
        exchange(agent, build("POST", "/v1/capabilities/echo", body, [CLOSE]))
    for route in mischief.GET_ROUTES:
        exchange(agent, build("GET", route, headers=[CLOSE]))
    for number in range(100):
        agent.post("/v1/tasks", {"capability": "echo", "input": {"text": f"{number}" * 1000}})
    known = {"id": "known", "capability": "echo", "input": {"text": "known"}}
    assert agent.post("/v1/tasks", known).status == 200
    assert len(list(agent.stream("count", {"n": 500, "size": 5000}))) > 500


def assert_definite(raw: bytes, *, is_head: bool = False) -> None:
    """One whole answer, or a connection that was refused; never an error of the agent's own."""
    answers = split_answers(raw, is_head=is_head)
    assert answers
    for answer in answers:
        assert answer.status < 500 or answer.status in BY_DESIGN, answer
        if answer.headers.get("content-type") == "application/problem+json" and answer.body:
            problem = answer.json()
            assert problem["status"] == answer.status
            assert problem["code"] != "internal_error"
            assert {"type", "title", "detail", "code"} <= problem.keys()
            assert b"Traceback" not in answer.body
            assert b"kagent_sdk" not in answer.body


def assert_in_step(agent: RunningAgent, request: bytes) -> None:
    """One definite answer on a connection that stays open, and behind it the next request's own."""
    with dial(agent) as client:
        push(client, request)
        answer = read_answer(client)
        assert answer is not None
        assert answer.status < 500 or answer.status in BY_DESIGN, answer
        push(client, build("GET", "/v1/tasks?limit=0", headers=[CLOSE]))
        following = split_answers(read_all(client))
        is_closed = not following
        assert is_closed or [each.status for each in following] == [400], following
        assert not is_closed or answer.headers.get("connection") == "close", answer


@contextmanager
def dialled(agent: RunningAgent, count: int) -> Iterator[list[socket.socket]]:
    """Hold that many connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(dial(agent)) for _ in range(count)]


def push(client: socket.socket, data: bytes) -> None:
    """Send if the other side still listens, and we still speak."""
    try:
        client.sendall(data)
    except OSError:
        return


def leave(client: socket.socket, ending: str) -> None:
    """Go, in one of many ways; ``deaf`` stays and never reads, ``stay`` will."""
    if ending == "reset":
        reset(client)
    elif ending == "close":
        client.close()
    elif ending == "half":
        try:
            client.shutdown(socket.SHUT_WR)
        except OSError:
            return

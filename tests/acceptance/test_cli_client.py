"""The command line's HTTP client against servers that misbehave, over real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Self

import pytest

from kagent_sdk.cli import client as client_module
from kagent_sdk.cli.boundary import UnreachableError
from kagent_sdk.cli.client import AgentClient, path_of
from kagent_sdk.cli.main import main
from kagent_sdk.cli.problems import ProblemError
from kagent_sdk.cli.target import Target
from kagent_sdk.cli.task_stream import send_task

ENDLESS = b"x" * 65_536
TOO_MUCH = "more than is safe to read"
TOO_LATE = "does not answer in time"


class BadServer:
    """Answers each connection with the same bytes, whatever was asked.

    Args:
        answer: the bytes.
        repeat: then sent until the client has had enough.
        lingers: keep the connection open and silent.
    """

    def __init__(self, answer: bytes, *, repeat: bytes = b"", lingers: bool = False) -> None:
        self._answer = answer
        self._repeat = repeat
        self._lingers = lingers
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for the thread."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.requests.append(_read_request(connection))
                connection.sendall(self._answer)
                while self._repeat and not self._ended.is_set():
                    connection.sendall(self._repeat)
                if self._lingers:
                    self._ended.wait()


def _read_request(connection: socket.socket) -> bytes:
    """Read a request to its end: a socket closed with bytes unread resets its peer instead."""
    request = b""
    while (end := request.find(b"\r\n\r\n")) < 0:
        chunk = connection.recv(65_536)
        if not chunk:
            return request
        request += chunk
    length = re.search(rb"(?i)\r\nContent-Length: (\d+)", request[:end])
    missing = int(length[1]) - (len(request) - end - 4) if length else 0
    while missing > 0 and (chunk := connection.recv(missing)):
        request += chunk
        missing -= len(chunk)
    return request


@contextlib.contextmanager
def bad_agent(
    answer: bytes, *, repeat: bytes = b"", lingers: bool = False
) -> Iterator[AgentClient]:
    """Give a client of a server that misbehaves."""
    with BadServer(answer, repeat=repeat, lingers=lingers) as server:
        yield AgentClient(Target(server.url))


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return a correct answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stream(*events: bytes) -> bytes:
    """Return an event stream that ends where the connection does."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(events)


def run(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("bytes_sent", "message"),
    [
        (b"", "ended the connection before its answer was whole"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP; is the address right?"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "ended the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "ended the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "ended the connection"),
        (
            answer(b"<html>", kind="text/html"),
            "does not answer like an agent (status 200, text/html)",
        ),
        (answer(b"", "302 Found"), "does not answer like an agent (status 302"),
        (answer(b"[1]"), "does not answer like an agent"),
        (answer(b"[" * 100_000), "does not answer like an agent"),
        (answer(b"\xff\xfe{}"), "does not answer like an agent"),
    ],
)
def test_what_does_not_answer_like_an_agent_is_told_in_one_line(
    bytes_sent: bytes, message: str
) -> None:
    """A wrong port is found by anybody, and must not look like a bug of ours."""
    with bad_agent(bytes_sent) as agent, pytest.raises(UnreachableError) as caught:
        agent.get("/status")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Type: application/problem+json\r\n\r\n",
    ],
)
def test_an_endless_answer_is_not_read_to_its_end(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile server must not fill the memory of whoever asks it."""
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1_000_000)
    chunk = b"10000\r\n%b\r\n" % ENDLESS if b"chunked" in head else ENDLESS

    with (
        bad_agent(head, repeat=chunk) as agent,
        pytest.raises(UnreachableError, match="is over 1000"),
    ):
        agent.get("/status")


def test_an_endless_header_is_not_read_to_its_end() -> None:
    """The standard library bounds the lines; this holds it to that."""
    endless = bad_agent(b"HTTP/1.1 200 OK\r\nA: ", repeat=ENDLESS)
    with endless as agent, pytest.raises(UnreachableError):
        agent.get("/status")


def test_a_silent_server_is_given_up_on() -> None:
    """A probe must end, and a person must get the prompt back."""
    with bad_agent(b"", lingers=True) as agent, pytest.raises(UnreachableError, match=TOO_LATE):
        agent.request("GET", "/healthz", timeout_s=0.2)


def test_an_answer_that_trickles_is_given_up_on() -> None:
    """Each byte in time does not make an answer in time."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        bad_agent(head, repeat=b"1\r\n \r\n") as agent,
        pytest.raises(UnreachableError, match=TOO_LATE),
    ):
        agent.request("GET", "/healthz", timeout_s=0.3)


def test_nobody_there_is_told_with_the_way_out() -> None:
    """The most common case of all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

    with pytest.raises(UnreachableError, match=f"no agent listens at {url}; start one"):
        AgentClient(Target(url)).get("/status")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((), "ended the connection before the task was done"),
        ((b'event: state\ndata: {"state":"working"}\n\n',), "ended the connection"),
        ((b"event: task\ndata: {\n\n",), "that is not JSON"),
        ((b"event: \x1b[2J\ndata: {\n\n",), "that is not JSON"),
        ((b"event: task\ndata: " + b"[" * 100_000 + b"\n\n",), "that is not JSON"),
    ],
)
def test_a_stream_that_breaks_off_is_no_result(events: Sequence[bytes], message: str) -> None:
    """Half a stream must never be taken for the whole."""
    with bad_agent(stream(*events)) as agent, pytest.raises(UnreachableError, match=message):
        list(send_task(agent, {}))


def test_an_endless_event_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of an answer holds for each event of a stream."""
    monkeypatch.setattr("kagent_sdk.cli.task_stream.MAX_ANSWER_BYTES", 1_000_000)

    with (
        bad_agent(stream(b"data: "), repeat=ENDLESS) as agent,
        pytest.raises(UnreachableError, match=TOO_MUCH),
    ):
        list(send_task(agent, {}))


def test_a_silent_stream_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A living agent sends a comment every 15 seconds."""
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT_S", 0.2)

    with (
        bad_agent(stream(), lingers=True) as agent,
        pytest.raises(UnreachableError, match=TOO_LATE),
    ):
        list(send_task(agent, {}))


def test_a_gateway_that_collects_the_stream_is_understood() -> None:
    """Some proxies answer with the task alone."""
    with bad_agent(answer(b'{"state": "completed"}')) as agent:
        (update,) = send_task(agent, {})

    assert update.data == {"state": "completed"}


def test_a_refused_task_is_a_problem() -> None:
    """Also when a stream was asked for."""
    problem = b'{"status": 429, "code": "queue_full", "detail": "full; try again later"}'
    reply = answer(problem, "429 Too Many Requests").replace(
        b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n", 1
    )

    with bad_agent(reply) as agent, pytest.raises(ProblemError, match=r"^full; try again in 7 s$"):
        list(send_task(agent, {}))


def test_the_token_is_sent_and_paths_are_quoted() -> None:
    """A task id may hold what means something in a path."""
    with BadServer(answer(b"{}")) as server:
        AgentClient(Target(f"{server.url}/base", "s3cret")).get(
            path_of("v1", "tasks", "../a b"), {"q": "ü"}
        )

    (request,) = server.requests
    assert request.startswith(b"GET /base/v1/tasks/..%2Fa%20b?q=%C3%BC HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in request


EVIL = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.mark.parametrize(
    ("arguments", "document"),
    [
        (("capabilities",), {"capabilities": [{"name": EVIL, "description": EVIL}]}),
        (("tasks",), {"tasks": [{"id": EVIL, "capability": EVIL, "state": EVIL}]}),
        (("tasks", "x"), {"id": EVIL, "output": EVIL, "error": {"code": EVIL, "message": EVIL}}),
        (("tasks", "--cancel", "x"), {"state": EVIL}),
        (("call", "x"), {"state": "completed", "output": {EVIL: EVIL}}),
        (
            ("call", "x"),
            {"state": "failed", "error": {"code": EVIL, "message": EVIL, "details": EVIL}},
        ),
        (("call", "x", "--async"), {"id": EVIL}),
        (("status",), {"health": EVIL}),
    ],
)
def test_no_answer_reaches_the_terminal_as_it_is(
    arguments: tuple[str, ...],
    document: object,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Escape sequences in an agent's answer are an attack on whoever looks at it (CWE-150)."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with BadServer(answer(json.dumps(document).encode())) as server:
        run(*arguments, "--url", server.url)

    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\u202e" not in text


def test_an_agent_that_pages_without_end_is_read_to_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A cursor that leads in circles must not keep the command for ever."""
    page = {"tasks": [{"id": "a"}], "next": "a"}
    with BadServer(answer(json.dumps(page).encode())) as server:
        assert run("tasks", "--limit", "5", "--json", "--url", server.url) == 0

    assert len(json.loads(capsys.readouterr().out)["tasks"]) == 5
    assert len(server.requests) == 5


def test_an_answer_on_a_connection_that_stays_open_is_taken_at_once() -> None:
    """Not every server closes because it was asked to."""
    with bad_agent(answer(b'{"a": 1}'), lingers=True) as agent:
        assert agent.get("/status") == {"a": 1}

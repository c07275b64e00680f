"""Plain calls answered straight from the connection: which requests qualify, and their answers.

A job for every request is most of what aiohttp costs. The call of a capability with everything at
hand needs none: it is submitted where its bytes come in, and answered where its task ends. Only
what is plain is taken; all else, above all what must be refused, goes the ordinary way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_response import StreamResponse

from kagent_sdk.host.http.answers import problem_response
from kagent_sdk.host.http.calls import Calls, problem_of, trace
from kagent_sdk.host.task import Submission, Task
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import internal_error

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from kagent_sdk.host.engine import Engine
    from kagent_sdk.host.http.auth import Gatekeeper
    from kagent_sdk.host.logs.pump import LogPump

ROUTE = "/v1/capabilities/{name}"
_HEAD = ROUTE.removesuffix("{name}")
PLAIN_START = f"POST {_HEAD}".encode()
"""How the bytes of a plain call begin."""

NOT_PLAIN = ("Expect", "Content-Encoding", "Transfer-Encoding", "Idempotency-Key", "Prefer")
"""Headers that ask for something which only the ordinary way does."""


class Connection(Protocol):
    """Where an answer goes; one call at a time."""

    def give(self, output: bytes) -> None:
        """Write 200 with the output, and go on with what came meanwhile."""
        ...

    def hand_over(self, response: StreamResponse) -> None:
        """Let the connection's own job send any other answer."""
        ...


class DirectCalls:
    """Takes plain calls.

    Args:
        engine: runs them.
        calls: does what both ways have in common.
        gatekeeper: who may ask.
        pump: told of submissions that fail.
        max_body_bytes: ``http.max_body_bytes``.
    """

    __slots__ = ("_calls", "_counters", "_dispatcher", "_engine", "_gatekeeper", "_limit", "_pump")

    def __init__(
        self,
        engine: Engine,
        calls: Calls,
        gatekeeper: Gatekeeper,
        pump: LogPump,
        max_body_bytes: int,
    ) -> None:
        self._engine = engine
        self._dispatcher = engine.dispatcher
        self._counters = engine.counters
        self._calls = calls
        self._gatekeeper = gatekeeper
        self._pump = pump
        self._limit = max_body_bytes

    def admits(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        """Whether a parsed request is a plain call with its whole body at hand."""
        if not payload.is_eof() or payload.total_bytes > self._limit or not is_plain(message):
            return False
        manifest = self._dispatcher.capabilities.get(message.path[len(_HEAD) :])
        if manifest is None or manifest.streams:
            return False
        try:
            self._gatekeeper.check(ROUTE, message.headers)
        except RequestError:
            return False
        return True

    def start(
        self, connection: Connection, message: RawRequestMessage, body: bytes
    ) -> DirectCall | None:
        """Submit a call that was admitted; None when it is refused, which is answered then."""
        submission = Submission(self._engine.ids.new(), message.path[len(_HEAD) :], body)
        trace(message.headers, submission)
        try:
            task = self._calls.submit(submission)
        except RequestError as error:
            response = problem_response(error.problem)
        except Exception as error:  # noqa: BLE001 - the boundary of this handler
            self._pump.log_exception("request_failed", error, route=ROUTE)
            response = problem_response(internal_error())
        else:
            return DirectCall(self, connection, task)
        self.count(response.status)
        connection.hand_over(response)
        return None

    def count(self, status: int) -> None:
        """Count an answer."""
        self._counters.answered(ROUTE, status)

    def leave(self, task: Task) -> None:
        """Do what is to be done when the client of a task is gone."""
        self._calls.leave(task)


def is_plain(message: RawRequestMessage) -> bool:
    """Whether a request asks for nothing but the output of a capability."""
    if (
        message.method != "POST"
        or message.version != HttpVersion11
        or message.should_close
        or message.chunked
        or message.upgrade
        or not message.path.startswith(_HEAD)
    ):
        return False
    headers = message.headers
    for name in NOT_PLAIN:
        if name in headers:
            return False
    accept = headers.get("Accept")
    return accept is None or "event-stream" not in accept.lower()


class DirectCall:
    """One call that is due: it ends with `finish` when its task does, or with `leave`."""

    __slots__ = ("_calls", "_connection", "_task")

    def __init__(self, calls: DirectCalls, connection: Connection, task: Task) -> None:
        self._calls = calls
        self._connection = connection
        self._task = task

    def watch(self) -> None:
        """Answer as soon as the task ends, at once if it has."""
        if self._task.is_finished:
            self.finish()
        else:
            self._task.on_done = self.finish

    def finish(self) -> None:
        """Answer."""
        task = self._task
        problem = problem_of(task)
        if problem is None and task.output is not None:
            self._calls.count(200)
            self._connection.give(task.output)
        elif problem is not None:
            self._calls.count(problem.status)
            self._connection.hand_over(problem_response(problem))

    def leave(self) -> None:
        """Take note that the client is gone."""
        self._task.on_done = None
        self._calls.count(499)
        self._calls.leave(self._task)

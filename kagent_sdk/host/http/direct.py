"""Plain requests answered straight from the connection: which qualify, and their answers.

A job for every request is most of what aiohttp costs. The call of a capability, or a task that its
caller waits for, with everything at hand needs none: it is submitted where its bytes come in, and
answered where it ends. Only what is plain is taken; all else goes the ordinary way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_response import Response, StreamResponse

from kagent_sdk.host.http.answers import problem_response
from kagent_sdk.host.http.calls import Calls, accepted, problem_of, submission_of, trace
from kagent_sdk.host.task import Submission, Task
from kagent_sdk.protocol.envelope import parse_envelope
from kagent_sdk.protocol.headers import KLINK_LEASE, Preference
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import internal_error
from kagent_sdk.protocol.tasks import TaskState

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from kagent_sdk.host.engine import Engine
    from kagent_sdk.host.http.auth import Gatekeeper
    from kagent_sdk.host.logs.pump import LogPump

CALL_ROUTE = "/v1/capabilities/{name}"
TASK_ROUTE = "/v1/tasks"
_HEAD = CALL_ROUTE.removesuffix("{name}")
PLAIN_STARTS = (f"POST {_HEAD}".encode(), f"POST {TASK_ROUTE} ".encode())
"""How the bytes of a plain request begin."""

NOT_PLAIN = (
    "Expect",
    "Content-Encoding",
    "Transfer-Encoding",
    "Idempotency-Key",
    "Prefer",
    KLINK_LEASE,
)
"""Headers that ask for something which only the ordinary way does."""


NOT_PLAIN_TASK = (b'"id"', b'"callback_url"', b"\\u")
"""Bytes of a request for a task that asks for something which only the ordinary way does."""


class Connection(Protocol):
    """Where an answer goes; one call at a time."""

    def give(self, output: bytes) -> None:
        """Write 200 with the output, and go on with what came meanwhile."""
        ...

    def hand_over(self, response: StreamResponse) -> None:
        """Let the connection's own job send any other answer."""
        ...


class DirectCalls:
    """Takes plain requests.

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

    def admits(self, message: RawRequestMessage, payload: StreamReader, data: bytes) -> bool:
        """Whether a parsed request is a plain one with its whole body at hand.

        Args:
            message: its head.
            payload: its body.
            data: the bytes that both were parsed from.
        """
        if not payload.is_eof() or payload.total_bytes > self._limit or not is_plain(message):
            return False
        if message.path == TASK_ROUTE:
            return self._admits_task(payload, data) and self._may_ask(message, TASK_ROUTE)
        manifest = self._dispatcher.capabilities.get(message.path[len(_HEAD) :])
        if manifest is None or manifest.streams:
            return False
        return self._may_ask(message, CALL_ROUTE)

    def _admits_task(self, payload: StreamReader, data: bytes) -> bool:
        # With an id of the caller's the disk must be asked first, and a callback's URL be judged. A
        # name cannot be written otherwise (RFC 8259, 7: letters have no escape but that by number).
        return payload.total_bytes <= SMALL_BYTES and not any(
            word in data for word in NOT_PLAIN_TASK
        )

    def _may_ask(self, message: RawRequestMessage, route: str) -> bool:
        try:
            self._gatekeeper.check(route, message.headers)
        except RequestError:
            return False
        return True

    def start(
        self, connection: Connection, message: RawRequestMessage, body: bytes
    ) -> DirectCall | None:
        """Submit what was admitted; None when it is refused, which is answered then."""
        is_task = message.path == TASK_ROUTE
        route = TASK_ROUTE if is_task else CALL_ROUTE
        try:
            submission = self._read_task(body) if is_task else self._read_call(message, body)
            trace(message.headers, submission)
            task = self._calls.submit(submission)
        except RequestError as error:
            response = problem_response(error.problem)
        except Exception as error:  # noqa: BLE001 - the boundary of this handler
            self._pump.log_exception("request_failed", error, route=route)
            response = problem_response(internal_error())
        else:
            return (DirectTask if is_task else DirectCall)(self, connection, task)
        self._counters.answered(route, response.status)
        connection.hand_over(response)
        return None

    def _read_call(self, message: RawRequestMessage, body: bytes) -> Submission:
        return Submission(self._engine.ids.new(), message.path[len(_HEAD) :], body)

    def _read_task(self, body: bytes) -> Submission:
        envelope = parse_envelope(body)
        assert envelope.id is None and envelope.callback_url is None  # noqa: PT018 - of one kind
        return submission_of(envelope, self._engine.ids.new())

    def count(self, route: str, status: int) -> None:
        """Count an answer."""
        self._counters.answered(route, status)

    def leave(self, task: Task) -> None:
        """Do what is to be done when the client of a task is gone."""
        self._calls.leave(task)


def is_plain(message: RawRequestMessage) -> bool:
    """Whether a request asks for nothing but the output of a capability, or the end of a task."""
    if (
        message.method != "POST"
        or message.version != HttpVersion11
        or message.should_close
        or message.chunked
        or message.upgrade
        or not (message.path.startswith(_HEAD) or message.path == TASK_ROUTE)
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
    route = CALL_ROUTE

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
            self._give(task.output)
        elif problem is not None:
            self._hand_over(problem_response(problem))

    def leave(self) -> None:
        """Take note that the client is gone."""
        self._task.on_done = None
        self._calls.count(self.route, 499)
        self._calls.leave(self._task)

    def _give(self, body: bytes) -> None:
        self._calls.count(self.route, 200)
        self._connection.give(body)

    def _hand_over(self, response: Response) -> None:
        self._calls.count(self.route, response.status)
        self._connection.hand_over(response)


class DirectTask(DirectCall):
    """One task that its caller waits for: the answer is the task, however it ended."""

    __slots__ = ()
    route = TASK_ROUTE

    def finish(self) -> None:
        """Answer."""
        task = self._task
        if task.is_left:
            self._hand_over(accepted(task, Preference()))
        elif task.state is TaskState.REJECTED:
            self._hand_over(problem_response(problem_of(task) or internal_error()))
        else:
            self._give(task.document())

"""A small HTTP client for one agent. Every answer is bounded; nothing in one is trusted.

On `http.client`, because a command line should start fast, and because the library that serves
the control plane is not needed to ask it something.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from kagent_sdk.cli.boundary import UnreachableError
from kagent_sdk.cli.failures import explain_failure
from kagent_sdk.cli.problems import problem_error
from kagent_sdk.cli.text import clean_line
from kagent_sdk.protocol.sse import SSE_CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ssl import SSLContext

    from kagent_sdk.cli.target import Target

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Eight times the default of ``tasks.max_output_bytes``."""
CHUNK_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 30.0
SILENCE_TIMEOUT_S = 60.0
"""A stream says something every 15 s (keep-alive); after four missed ones the agent is gone."""
FIRST_ERROR_STATUS = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whatever its status."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes

    @property
    def is_error(self) -> bool:
        """Whether the status says that the request was not done."""
        return self.status >= FIRST_ERROR_STATUS

    def json(self) -> object:
        """Return the parsed body.

        Raises:
            ValueError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


class AgentClient:
    """Ask one agent. Each request is a connection of its own; nothing is held between them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        parts = urlsplit(target.url)
        self._is_tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._base_path = parts.path

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at a path.

        Raises:
            ProblemError: the agent refuses.
            UnreachableError: no agent answers, or what answers is none.
        """
        full = f"{path}?{urlencode(query)}" if query else path
        return self._object(self.request("GET", full))

    def post(
        self, path: str, document: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a JSON document and return the JSON object that answers.

        Raises:
            ProblemError, UnreachableError: as for `get`.
        """
        return self._object(self.request("POST", path, encode_json(document), headers))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Send one request and return its answer, whatever the status.

        Raises:
            UnreachableError: no answer came, or one that is too large.
        """
        with self._exchange(method, path, body, headers, timeout_s) as response:
            return self._read(response, timeout_s)

    @contextmanager
    def stream(
        self, method: str, path: str, document: object = None
    ) -> Iterator[Answer | Iterator[bytes]]:
        """Ask for an event stream and give its chunks.

        An answer that is no event stream (the agent refused, or something between us and it
        collected the stream) is given as an `Answer`.

        Raises:
            UnreachableError: no answer came, or the stream broke off or fell silent.
        """
        headers = {"Accept": SSE_CONTENT_TYPE}
        body = None if document is None else encode_json(document)
        with self._exchange(method, path, body, headers, SILENCE_TIMEOUT_S) as response:
            if response.headers.get_content_type() == SSE_CONTENT_TYPE:
                yield self._chunks(response)
            else:
                yield self._read(response, ANSWER_TIMEOUT_S)

    def answered(self, answer: Answer) -> dict[str, Any]:
        """Return the JSON object of an answer; see `get` for the errors."""
        return self._object(answer)

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:
        with self._connected(timeout_s) as connection:
            with self._translated():
                connection.request(
                    method, self._base_path + path, body, self._headers(body, headers or {})
                )
                response = connection.getresponse()
            yield response

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        # http.client does not count what read1 gives (CPython 3.11): it would wait for more on a
        # connection that stays open, and take a torn answer for a whole one.
        left = response.length
        while left != 0:
            size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
            # Around the reading alone: what the reader of the chunks raises is not ours.
            with self._translated():
                chunk = response.read1(size)
                if not chunk and left:
                    raise http.client.IncompleteRead(b"", left)
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk

    def _read(self, response: http.client.HTTPResponse, timeout_s: float) -> Answer:
        give_up_at = time.monotonic() + timeout_s
        chunks: list[bytes] = []
        size = 0
        for chunk in self._chunks(response):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise UnreachableError(
                    f"the answer of {self.target.url} is over {MAX_ANSWER_BYTES} bytes; "
                    "the rest was not read"
                )
            if time.monotonic() > give_up_at:
                raise UnreachableError(explain_failure(TimeoutError(), self.target.url))
            chunks.append(chunk)
        return Answer(
            response.status,
            response.headers.get_content_type(),
            response.headers.get("Retry-After"),
            b"".join(chunks),
        )

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        if not self.target.relay:
            with closing(self._connection(timeout_s)) as connection:
                yield connection
            return
        from kagent_sdk.cli.containers import open_relay  # noqa: PLC0415 - starts a program

        with ExitStack() as stack:
            with self._translated():
                channel = stack.enter_context(open_relay(self.target.relay, timeout_s))
                if self._is_tls:
                    context = client_context_of(self.target)
                    channel = context.wrap_socket(channel, server_hostname=self._host)
            connection = stack.enter_context(closing(self._connection(timeout_s)))
            connection.sock = channel
            yield connection

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = client_context_of(self.target)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout_s, context=context
        )

    def _headers(self, body: bytes | None, headers: Mapping[str, str]) -> dict[str, str]:
        merged = {"Accept": "application/json", "Connection": "close", **headers}
        if body is not None:
            merged["Content-Type"] = "application/json"
        if self.target.token is not None:
            merged["Authorization"] = f"Bearer {self.target.token}"
        return merged

    def _object(self, answer: Answer) -> dict[str, Any]:
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.is_error:
            problem = document if isinstance(document, dict) else {}
            raise problem_error(answer.status, problem, answer.retry_after)
        if not isinstance(document, dict):
            raise UnreachableError(
                f"{self.target.url} does not answer like an agent (status {answer.status}, "
                f"{clean_line(answer.content_type)}); is the address right?"
            )
        return document

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as exc:
            raise UnreachableError(explain_failure(exc, self.target.url)) from exc


def client_context_of(target: Target) -> SSLContext:
    """Return the context for the connections to an agent; see `kagent_sdk.cli.tls`."""
    from kagent_sdk.cli.tls import client_context  # noqa: PLC0415 - pydantic and yaml

    return client_context(target)


def path_of(*words: str) -> str:
    """Return a path from its parts, each quoted."""
    return "".join(f"/{quote(word, safe='')}" for word in words)


def encode_json(document: object) -> bytes:
    """Return a document as the body of a request."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()

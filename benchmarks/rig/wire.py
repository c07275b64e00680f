"""The little HTTP/1.1 that a load generator needs: build a request, read an answer."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from http import HTTPStatus

HOST = "127.0.0.1"
# What curl and most HTTP libraries send: three short headers beside the body's two.
USER_AGENT = "kagent-benchmark"


class BadAnswerError(Exception):
    """A contender answered something that is not the right answer: its numbers are worthless."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes


def build_request(
    method: str, path: str, body: bytes = b"", *, close: bool = False, token: str = ""
) -> bytes:
    """Return the bytes of a request; ``close`` asks the server to end the connection."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"User-Agent: {USER_AGENT}"]
    lines.append("Accept: */*")
    if close:
        lines.append("Connection: close")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def body_span(data: bytes) -> tuple[int, int] | None:
    """Return where the body of an answer starts and ends, or None while its head is cut short.

    Only answers with a Content-Length are understood: every contender sends one.

    Raises:
        BadAnswerError: the head has none.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    # Matches Content-Length in any spelling of its first letters, without a copy of the head.
    at = data.find(b"ength: ", 0, head_end)
    if at < 0:
        raise BadAnswerError(f"no Content-Length in {data[:head_end]!r}")
    at += len(b"ength: ")
    line_end = data.find(b"\r\n", at, head_end + 2)
    start = head_end + 4
    return start, start + int(data[at:line_end])


def read_answer(connection: socket.socket) -> Answer:
    """Read one answer from a blocking socket.

    Raises:
        BadAnswerError: it is not HTTP, or cut short.
        OSError: the connection failed or its timeout passed.
    """
    data = b""
    while True:
        chunk = connection.recv(65536)
        if not chunk:
            raise BadAnswerError(f"connection closed after {data[:200]!r}")
        data += chunk
        span = body_span(data)
        if span is not None and len(data) >= span[1]:
            return Answer(status_of(data), data[span[0] : span[1]])


def status_of(data: bytes) -> int:
    """Return the status code of an answer.

    Raises:
        BadAnswerError: this is not an HTTP answer.
    """
    if not data.startswith(b"HTTP/1."):
        raise BadAnswerError(f"not HTTP: {data[:50]!r}")
    return int(data[9:12])


def exchange(port: int, request: bytes, *, timeout_s: float) -> Answer:
    """Open a connection, send one request, read the answer, close.

    Raises:
        BadAnswerError, OSError: as `read_answer`; the timeout is for each step.
    """
    with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        connection.sendall(request)
        return read_answer(connection)


def is_answered(port: int, request: bytes, *, timeout_s: float) -> bool:
    """Say whether a request on a new connection is answered with 200, in time for each step."""
    try:
        return exchange(port, request, timeout_s=timeout_s).status == HTTPStatus.OK
    except (OSError, BadAnswerError):
        return False

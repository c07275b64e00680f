"""HTTP by hand, over plain sockets: for clients that no HTTP library would let us be."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.agents import RunningAgent

READ_S = 30.0
"""How long a client here waits for an answer, unless it is about the waiting."""

Header = tuple[str, str | bytes]


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """One answer as it came over the wire; the body is whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as parsed JSON."""
        return json.loads(self.body)


def dial(
    agent: RunningAgent, timeout_s: float = READ_S, *, window: int | None = None
) -> socket.socket:
    """Return a new connection to the agent.

    Args:
        agent: to connect to.
        timeout_s: of every operation.
        window: bytes that the kernel may take in before we read; its default if None.
    """
    address = urlsplit(agent.url)
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(timeout_s)
    client.connect((address.hostname, address.port))
    return client


def reset(client: socket.socket) -> None:
    """Close with a RST, as a client that crashed (socket(7), SO_LINGER)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def build(
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Iterable[Header] = (),
) -> bytes:
    """Return a request; with a body it is JSON with a true Content-Length."""
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: 127.0.0.1"]
    if body is not None:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    for name, value in headers:
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        lines.append(name.encode("latin-1") + b": " + raw)
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def read_all(client: socket.socket, deadline_s: float = READ_S) -> bytes:
    """Return what comes until the other side closes or resets.

    Raises:
        TimeoutError: it does neither in time.
    """
    give_up_at = time.monotonic() + deadline_s
    parts: list[bytes] = []
    while True:
        client.settimeout(max(0.001, give_up_at - time.monotonic()))
        try:
            part = client.recv(65536)
        except ConnectionError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def is_closed_within(client: socket.socket, deadline_s: float) -> bool:
    """Read whatever comes; whether the other side closes or resets in time."""
    give_up_at = time.monotonic() + deadline_s
    while (left_s := give_up_at - time.monotonic()) > 0:
        client.settimeout(left_s)
        try:
            if not client.recv(65536):
                return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False
    return False


def exchange(agent: RunningAgent, request: bytes, deadline_s: float = READ_S) -> bytes:
    """Send bytes on a new connection and return all that comes back until it is closed."""
    with dial(agent) as client:
        # Refused before it was read to the end? The answer may be there all the same.
        with suppress(ConnectionError):
            client.sendall(request)
        return read_all(client, deadline_s)


def read_answer(client: socket.socket) -> WireAnswer | None:
    """Return the next final answer of a connection; None when it ends without one.

    Takes one answer at a time: what is read behind it is an error.

    Raises:
        TimeoutError: nothing comes for as long as the socket waits.
    """
    raw = b""
    while True:
        try:
            part = client.recv(65536)
        except ConnectionError:
            return None
        if not part:
            return None
        raw += part
        try:
            answers = split_answers(raw)
        except AssertionError:
            continue  # it is not whole yet
        if answers[-1].status >= 200:
            return answers[-1]


def split_answers(raw: bytes, *, is_head: bool = False) -> list[WireAnswer]:
    """Cut what came over one connection into answers.

    Args:
        raw: what came.
        is_head: the request was HEAD: the answer has no body, but that of a request which could
            not be read has one, for nobody knows then what it was.

    Raises:
        AssertionError: it is not a sequence of whole HTTP answers and nothing else.
    """
    answers = []
    while raw:
        head, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator, head[:500]
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), first
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        body = b""
        if not is_head or (status == "400" and raw):
            body, raw = _split_body(headers, raw)
        answers.append(WireAnswer(int(status), headers, body))
    return answers


def _split_body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding") == "chunked":
        return _split_chunks(rest)
    size = int(headers.get("content-length", 0))
    assert len(rest) >= size, (headers, rest[:500])
    return rest[:size], rest[size:]


def _split_chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        assert separator, "the chunks end without the last one"
        size = int(line, 16)
        assert rest[size : size + 2] == b"\r\n", "a chunk is cut short"
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, rest

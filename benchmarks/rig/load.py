"""The load generator: keep-alive connections in one thread, every answer checked.

Closed loop: each connection sends its next request when its answer has come. The thread's own CPU
time is measured with every slice, which shows whether the generator or the server was the limit.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from rig.wire import HOST, BadAnswerError, body_span

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_TIMEOUT_S = 10.0


class Check(Protocol):
    """Judges one whole answer."""

    def __call__(self, answer: bytes, body_start: int) -> bool:
        """Say whether the answer is right; ``body_start`` is where its body begins."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice of load measured.

    Attributes:
        answers: right answers inside the slice.
        took_s: length of the slice.
        busy: share of the slice that the generator's thread was on a CPU.
        latencies_us: one per answer, in the order of the answers.
    """

    answers: int
    took_s: float
    busy: float
    latencies_us: list[float]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.took_s


class Load:
    """Connections to one server, kept open between slices.

    Args:
        port: where the server listens on loopback.
        request: the bytes to send, again and again.
        check: judges every answer.
        connections: how many requests are under way at a time.
    """

    def __init__(self, port: int, request: bytes, check: Check, *, connections: int) -> None:
        self._port = port
        self._request = request
        self._check = check
        self._count = connections
        self._sockets: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        for _ in range(self._count):
            connection = socket.create_connection((HOST, self._port), timeout=ANSWER_TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[connection.fileno()] = connection
        return self

    def __exit__(self, *_exc: object) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()

    def drive(self, seconds: float) -> Slice:
        """Send for so long and return what came back.

        Raises:
            BadAnswerError: an answer is wrong, or none came for `ANSWER_TIMEOUT_S`.
        """
        with _without_gc():
            if self._count == 1:
                return self._drive_one(seconds)
            return self._drive_many(seconds)

    def run_count(self, count: int) -> None:
        """Send ``count`` requests over the first connection, one after the other.

        Raises:
            BadAnswerError: as `drive`.
        """
        connection = next(iter(self._sockets.values()))
        for _ in range(count):
            connection.sendall(self._request)
            self._receive(connection)

    def _drive_one(self, seconds: float) -> Slice:
        connection = next(iter(self._sockets.values()))
        started, cpu = time.perf_counter(), time.thread_time()
        latencies = self._repeat(connection, seconds)
        took_s = time.perf_counter() - started
        return Slice(len(latencies), took_s, (time.thread_time() - cpu) / took_s, latencies)

    def _repeat(self, connection: socket.socket, seconds: float) -> list[float]:
        clock, request = time.perf_counter, self._request
        latencies: list[float] = []
        now = clock()
        end = now + seconds
        while now < end:
            sent = now
            connection.sendall(request)
            self._receive(connection)
            now = clock()
            latencies.append((now - sent) * 1e6)
        return latencies

    def _receive(self, connection: socket.socket) -> None:
        data = connection.recv(65536)
        while not self._is_whole(data):
            chunk = connection.recv(65536)
            if not chunk:
                raise BadAnswerError(f"connection closed after {data[:200]!r}")
            data += chunk

    def _is_whole(self, data: bytes) -> bool:
        span = body_span(data)
        if span is None or len(data) < span[1]:
            return False
        if not data.startswith(b"HTTP/1.1 200 ") or not self._check(data, span[0]):
            raise BadAnswerError(f"wrong answer: {data[:500]!r}")
        return True

    def _drive_many(self, seconds: float) -> Slice:
        turn = _Turn(self._request, time.perf_counter() + seconds)
        with select.epoll() as poll:
            for number, connection in self._sockets.items():
                poll.register(number, select.EPOLLIN)
                turn.send(number, connection)
            while turn.under_way:
                ready = poll.poll(ANSWER_TIMEOUT_S)
                if not ready:
                    raise BadAnswerError(f"no answer for {ANSWER_TIMEOUT_S:.0f} s")
                for number, _ in ready:
                    self._take(number, turn)
        return Slice(len(turn.latencies_us), seconds, turn.cpu_s / seconds, turn.latencies_us)

    def _take(self, number: int, turn: _Turn) -> None:
        connection = self._sockets[number]
        chunk = connection.recv(65536)
        if not chunk:
            raise BadAnswerError("connection closed in an answer")
        data = turn.partial.pop(number, b"") + chunk
        if self._is_whole(data):
            if turn.count(number):
                turn.send(number, connection)
        else:
            turn.partial[number] = data


class _Turn:
    """The state of one slice over many connections."""

    def __init__(self, request: bytes, end: float) -> None:
        self._request = request
        self._end = end
        self._sent: dict[int, float] = {}
        self._cpu_begin = time.thread_time()
        self.partial: dict[int, bytes] = {}
        self.latencies_us: list[float] = []
        self.cpu_s = 0.0
        self.under_way = 0

    def send(self, number: int, connection: socket.socket) -> None:
        """Send the request over a connection."""
        self._sent[number] = time.perf_counter()
        connection.sendall(self._request)
        self.under_way += 1

    def count(self, number: int) -> bool:
        """Count an answer; say whether the connection is to send again."""
        self.under_way -= 1
        now = time.perf_counter()
        if now >= self._end:
            self.cpu_s = self.cpu_s or time.thread_time() - self._cpu_begin
            return False
        self.latencies_us.append((now - self._sent[number]) * 1e6)
        return True


@contextmanager
def _without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

"""Clients of the debug socket: one that keeps to the protocol, and bytes for those that do not."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kagent_sdk.protocol.debug import (
    FrameReader,
    Hello,
    Kind,
    Welcome,
    encode_frame,
    encode_hello,
    parse_welcome,
)

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session has written until its end; ``code`` is None when it was cut off."""

    out: str
    err: str
    code: int | None


class DebugClient:
    """One connection to a debug socket; as a block it is closed at the end.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # without a timeout it waits for a place in the queue
        self.socket.settimeout(DEADLINE_S)
        self._reader = FrameReader()
        self._behind = b""
        self._shown: dict[Kind, bytes] = {Kind.OUTPUT: b"", Kind.ERROR: b""}
        self._code: int | None = None

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.socket.close()

    def greet(self, *words: str) -> Welcome:
        """Ask for a command, or for a terminal; return the answer."""
        hello = Hello(words or None, term="xterm", is_terminal=not words)
        with suppress(ConnectionError):  # it may have refused already
            self.socket.sendall(encode_hello(hello))
        return self.read_welcome()

    def read_welcome(self) -> Welcome:
        """Return the answer of the agent."""
        line = b""
        while b"\n" not in line:
            data = self.socket.recv(4096)
            assert data, "no welcome came"
            line += data
        line, _, self._behind = line.partition(b"\n")
        return parse_welcome(line)

    def type(self, text: str) -> None:
        """Send keys."""
        self.socket.sendall(encode_frame(Kind.INPUT, text.encode()))

    def read_until(self, text: str) -> str:
        """Wait until the screen has shown a text; return all of it so far."""
        while text not in (shown := self._shown[Kind.OUTPUT].decode(errors="replace")):
            assert self._read(), f"ended without {text!r}: {shown}"
        return shown

    def wait(self) -> Outcome:
        """Wait for the end."""
        while self._read():
            pass
        out, err = (
            self._shown[kind].decode(errors="replace") for kind in (Kind.OUTPUT, Kind.ERROR)
        )
        return Outcome(out, err, self._code)

    def _read(self) -> bool:
        data, self._behind = self._behind, b""
        if not data:
            try:
                data = self.socket.recv(65_536)
            except ConnectionError:
                return False
        for kind, payload in self._reader.feed(data):
            if kind is Kind.EXIT:
                self._code = payload[0]
            else:
                self._shown[kind] += payload
        return bool(data)


def run(path: Path, words: Sequence[str]) -> Outcome:
    """Run one command."""
    with DebugClient(path) as client:
        welcome = client.greet(*words)
        assert welcome.refused is None, welcome
        return client.wait()


def ask(path: Path, data: bytes) -> str:
    """Send bytes as the first; return the reason of the refusal."""
    with DebugClient(path) as client:
        with suppress(ConnectionError):  # it may have refused already
            client.socket.sendall(data)
        refused = client.read_welcome().refused
        assert refused is not None
        return refused

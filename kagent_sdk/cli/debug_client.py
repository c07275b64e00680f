"""The client's side of the debug socket: connect, be let in, read frames."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.location import show_path
from kagent_sdk.cli.text import clean_line
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.debug import (
    MAX_COLUMNS,
    MAX_LINE_BYTES,
    FrameReader,
    Hello,
    Kind,
    encode_hello,
    parse_welcome,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WELCOME_S = 10.0
"""The host answers in milliseconds: its loop is held up by nothing in the worker."""

READ_BYTES = 64 * 1024


class DebugConnection:
    """A connection to a debug socket, made for the time of the block.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._reader = FrameReader()
        self._behind = b""

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            UnreachableError: nobody listens.
            CommandError: the user may not.
        """
        # With a timeout of Python's it would not wait for a place in the queue of connections.
        timeout = struct.pack("ll", int(WELCOME_S), 0)  # struct timeval
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        try:
            self.socket.connect(str(self.path))
        except OSError as exc:
            self.socket.close()
            raise _explain(exc, self.path) from None
        self.socket.settimeout(WELCOME_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.socket.close()

    def greet(self, hello: Hello) -> int:
        """Say what is wanted; return the number of the session.

        Raises:
            UsageError: it is too long.
            CommandError: the agent refuses, or does not answer.
        """
        try:
            line = encode_hello(hello)
        except ProtocolError as exc:
            raise UsageError(str(exc)) from None
        # It may have refused already, and be gone: then its answer waits to be read.
        with suppress(ConnectionError):
            self.socket.sendall(line)
        try:
            welcome = parse_welcome(self._read_line())
        except (OSError, ProtocolError) as exc:
            reason = str(exc) or "it does not answer"
            raise CommandError(
                f"{show_path(self.path)} does not speak as a debug socket does: {clean_line(reason)}",
                code="debug_failed",
            ) from None
        if welcome.refused is not None:
            raise CommandError(f"refused: {clean_line(welcome.refused)}", code="debug_refused")
        self.socket.settimeout(None)
        return welcome.session

    def read_frames(self) -> Iterator[tuple[Kind, bytes]]:
        """Read once; yield the frames that are complete now.

        Raises:
            CommandError: the agent is gone, or says what is no frame.
        """
        data, self._behind = self._behind, b""
        if not data:
            try:
                data = self.socket.recv(READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                raise lost_error(self.path)
        try:
            yield from self._reader.feed(data)
        except ProtocolError as exc:
            raise CommandError(
                f"{show_path(self.path)}: {clean_line(exc)}", code="debug_failed"
            ) from None

    @property
    def has_frames(self) -> bool:
        """Whether there is something to read that did not wait for the socket."""
        return bool(self._behind)

    def _read_line(self) -> bytes:
        line = b""
        while b"\n" not in line and len(line) <= MAX_LINE_BYTES:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise ProtocolError("it has closed the connection")
            line += data
        line, _, self._behind = line.partition(b"\n")
        return line


def make_hello(words: Sequence[str] | None) -> Hello:
    """Return what this process wants: a command, or a terminal."""
    size = os.get_terminal_size(1) if os.isatty(1) else None
    term = os.environ.get("TERM", "")
    return Hello(
        command=None if words is None else tuple(words),
        columns=100 if size is None else min(max(size.columns, 1), MAX_COLUMNS),
        rows=30 if size is None else min(max(size.lines, 1), MAX_COLUMNS),
        term=term if re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", term) else "dumb",
        is_terminal=size is not None,
    )


def write_out(kind: Kind, payload: bytes) -> None:
    """Write the payload of an OUTPUT to stdout, and that of an ERROR to stderr, at once."""
    if kind not in (Kind.OUTPUT, Kind.ERROR):
        return
    stream = sys.stdout if kind is Kind.OUTPUT else sys.stderr
    stream.buffer.write(payload)
    stream.buffer.flush()


def exit_code_in(payload: bytes) -> int:
    """Return what an EXIT says."""
    return payload[0] if payload else 0


def lost_error(path: Path) -> CommandError:
    """Return the error of a session whose agent has gone away."""
    return CommandError(
        f"the connection to the agent is lost ({show_path(path)}): it is stopping, or the worker has "
        "ended or was replaced; kos-agent status and kos-agent logs tell",
        code="debug_lost",
    )


def _explain(error: OSError, path: Path) -> CommandError:
    shown = show_path(path)
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return UnreachableError(f"no agent listens on {shown}; is it running?", code="not_running")
    if isinstance(error, PermissionError):
        return CommandError(
            f"{shown} is open to {_describe_owner(path)} alone; become that user",
            code="not_permitted",
        )
    if isinstance(error, BlockingIOError):
        return UnreachableError(f"the agent takes no connection on {shown}: it stands still")
    reason = clean_line(error.strerror or str(error))
    return UnreachableError(f"cannot connect to {shown}: {reason}")


def _describe_owner(path: Path) -> str:
    with suppress(OSError):
        uid = path.stat().st_uid
        return f"user {uid} and root" if uid else "root"
    return "the user that runs the agent and root"

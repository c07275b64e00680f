"""``kos-agent debug`` in a script: one command, or lines that are piped in."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

from kagent_sdk.cli.debug_client import DebugConnection, exit_code_in, make_hello, write_out
from kagent_sdk.cli.output import say
from kagent_sdk.protocol.debug import Kind, encode_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

STDIN_FD = 0
READ_BYTES = 32 * 1024

PATIENCE_S = 5.0
"""After so long without a word a person is told what else there is to try."""


class PipedSession:
    """Sends what it reads from stdin, if anything, and writes what comes to stdout and stderr.

    Args:
        connection: one on which nothing was said yet.
        hint: what else to try when nothing comes; told to people alone.
    """

    def __init__(self, connection: DebugConnection, hint: str) -> None:
        self._connection = connection
        self._hint = hint
        self._unread = b""
        self._is_reading = False
        self._hint_at: float | None = None

    def run(self, words: Sequence[str] | None, *, reads_stdin: bool) -> int:
        """Run the session; return its exit code.

        Args:
            words: a command and its arguments; None: the commands come from stdin.
            reads_stdin: whether the session is given what stdin has.

        Raises:
            CommandError: the agent refuses, or is lost.
            BrokenPipeError: nobody reads what is written.
            KeyboardInterrupt: Ctrl-C; the session ends with the connection.
        """
        self._connection.greet(make_hello(words))
        self._connection.socket.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._is_reading = reads_stdin
        if not reads_stdin:
            self._unread = encode_frame(Kind.END)
        if sys.stderr.isatty():
            self._hint_at = time.monotonic() + PATIENCE_S
        while True:
            if self._connection.has_frames or self._wait():
                code = self._show()
                if code is not None:
                    return code

    def _wait(self) -> bool:
        """Wait for something to do, and do it; return whether there is something to read."""
        inputs: list[int] = [self._connection.socket.fileno()]
        if self._is_reading and not self._unread:
            inputs.append(STDIN_FD)
        outputs = inputs[:1] if self._unread else []
        timeout_s = None if self._hint_at is None else max(0.0, self._hint_at - time.monotonic())
        # Not epoll: stdin may be a file.
        readable, writable, _ = select.select(inputs, outputs, [], timeout_s)
        if self._hint_at is not None and time.monotonic() >= self._hint_at and not readable:
            self._hint_at = None
            say(self._hint)
        if writable:
            self._send()
        if STDIN_FD in readable:
            self._take_input()
        return inputs[0] in readable

    def _show(self) -> int | None:
        try:
            for kind, payload in self._connection.read_frames():
                self._hint_at = None
                if kind is Kind.EXIT:
                    return exit_code_in(payload)
                write_out(kind, payload)
        except BlockingIOError:
            pass
        return None

    def _take_input(self) -> None:
        data = os.read(STDIN_FD, READ_BYTES)
        self._unread = encode_frame(Kind.INPUT, data) if data else encode_frame(Kind.END)
        self._is_reading = bool(data)

    def _send(self) -> None:
        try:
            sent = self._connection.socket.send(self._unread, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._is_reading, self._unread = False, b""  # what it has said last is still to be read
            return
        self._unread = self._unread[sent:]

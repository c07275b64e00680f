"""``kos-agent debug`` without a command: this terminal becomes one of a session in the worker."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import CommandError
from kagent_sdk.cli.debug_client import (
    DebugConnection,
    exit_code_in,
    make_hello,
    write_out,
)
from kagent_sdk.cli.raw_terminal import RawTerminal
from kagent_sdk.protocol.debug import Kind, encode_frame, encode_resize

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN_FD = 0
TYPED_BYTES = 4096

ANSWER_S = 2.0
"""So soon a worker that is well shows its prompt, and heeds a Ctrl-D."""

MAX_UNREAD_BYTES = 64 * 1024
"""Of what was typed, or pasted, and the worker does not read; more is dropped."""

CTRL_C = b"\x03"
CTRL_D = b"\x04"


class TerminalSession:
    """Carries keys to the session and its screen back, until one of the two ends.

    Args:
        connection: one on which nothing was said yet.
        hint: what else to try when the worker does not answer.
    """

    def __init__(self, connection: DebugConnection, hint: str) -> None:
        self._connection = connection
        self._hint = hint
        self._unread = bytearray()
        self._has_answered = False
        self._hint_at: float | None = None
        self._leave_at: float | None = None
        self._exit_code: int | None = None

    def run(self) -> int:
        """Run the session; return its exit code.

        Raises:
            CommandError: the agent refuses, is lost, or does not let go when it is asked to.
        """
        self._connection.greet(make_hello(None))
        self._connection.socket.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._hint_at = time.monotonic() + ANSWER_S
        with RawTerminal(STDIN_FD) as terminal, selectors.DefaultSelector() as selector:
            actions: dict[int, Callable[[], None]] = {
                STDIN_FD: self._take_keys,
                self._connection.socket.fileno(): self._show,
                terminal.signals_fd: lambda: self._take_signals(terminal),
            }
            for fd in actions:
                selector.register(fd, selectors.EVENT_READ)
            if self._connection.has_frames:
                self._show()
            while self._exit_code is None:
                self._expect_to_write(selector)
                for key, events in selector.select(self._timeout_s()):
                    if events & selectors.EVENT_WRITE:
                        self._send()
                    if events & selectors.EVENT_READ and self._exit_code is None:
                        actions[key.fd]()
                self._look_at_the_clock()
        return self._exit_code

    # What comes

    def _show(self) -> None:
        try:
            for kind, payload in self._connection.read_frames():
                self._has_answered = True
                self._hint_at = self._leave_at = None
                if kind is Kind.EXIT:
                    self._exit_code = exit_code_in(payload)
                else:
                    write_out(kind, payload)
        except BlockingIOError:
            return

    def _take_keys(self) -> None:
        try:
            keys = os.read(STDIN_FD, TYPED_BYTES)
        except OSError:
            keys = b""  # the terminal is gone
        if not keys:
            self._exit_code = 0
            return
        if not self._has_answered and (CTRL_C in keys or CTRL_D in keys):
            self._leave()
            return
        if CTRL_D in keys:
            self._leave_at = time.monotonic() + ANSWER_S
        if len(self._unread) <= MAX_UNREAD_BYTES:
            self._unread += encode_frame(Kind.INPUT, keys)
        self._send()

    def _take_signals(self, terminal: RawTerminal) -> None:
        if terminal.take_signals():
            size = os.get_terminal_size(STDIN_FD)
            self._unread += encode_resize(size.columns, size.lines)
            self._send()

    def _send(self) -> None:
        if not self._unread:
            return
        try:
            sent = self._connection.socket.send(self._unread, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self._unread.clear()  # it is gone: what it has said last is still to be read
            return
        del self._unread[:sent]

    def _expect_to_write(self, selector: selectors.BaseSelector) -> None:
        write = selectors.EVENT_WRITE if self._unread else 0
        selector.modify(self._connection.socket.fileno(), selectors.EVENT_READ | write)

    # What does not come

    def _timeout_s(self) -> float | None:
        times = [at for at in (self._hint_at, self._leave_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look_at_the_clock(self) -> None:
        now_s = time.monotonic()
        if self._hint_at is not None and now_s >= self._hint_at:
            self._hint_at = None
            self._say(f"{self._hint}; Ctrl-C or Ctrl-D leaves")
        if self._leave_at is not None and now_s >= self._leave_at:
            self._leave()

    def _leave(self) -> None:
        raise CommandError(f"left without an answer: {self._hint}", code="debug_no_answer")

    def _say(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def attach(path: Path, hint: str) -> int:
    """Attach this terminal to the worker behind a debug socket; return the session's exit code.

    Raises:
        CommandError: as `TerminalSession.run`; or there is nobody, or the user may not.
    """
    with DebugConnection(path) as connection:
        return TerminalSession(connection, hint).run()

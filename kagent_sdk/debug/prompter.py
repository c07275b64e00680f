"""Where a session's lines come from: a terminal, or what is piped into the client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.errors import ProtocolError

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

    from kagent_sdk.debug.history import SharedHistory

MAX_WAITING_BYTES = 256 * 1024
"""Of lines that nobody has asked for yet, and of one line."""

MIN_COLUMNS, MIN_ROWS = 20, 3
USUAL_SIZE = (80, 24)
"""A terminal that a program made often has no size; prompt_toolkit fails to draw for a few columns."""

CTRL_C = b"\x03"


def usable_size(columns: int, rows: int) -> tuple[int, int]:
    """Return the size to draw for: that of a usual terminal where it says it has none, or next to none."""
    if columns < MIN_COLUMNS or rows < MIN_ROWS:
        return USUAL_SIZE
    return columns, rows


class InterruptError(Exception):
    """Ctrl-C was typed at a prompt.

    No KeyboardInterrupt: asyncio lets that out of a job and through the whole loop.
    """


class Prompter(Protocol):
    """Gives line after line. For the server's thread only."""

    def feed(self, data: bytes) -> None:
        """Take what the client sent.

        Raises:
            ProtocolError: it is more than anyone types.
        """

    def end(self) -> None:
        """Take it that nothing more comes."""

    def resize(self, columns: int, rows: int) -> None:
        """Take the new size of the client's terminal."""

    async def read(
        self, prompt: str, history: SharedHistory, completer: Completer | None = None
    ) -> str:
        """Return the next line.

        Raises:
            EOFError: there is none.
            InterruptError: the user typed Ctrl-C instead.
        """

    def close(self) -> None:
        """Give back what is held; nothing is read any more."""


class LinePrompter:
    """Lines as they are piped into the client: no prompt, no echo.

    Args:
        on_interrupt: is told when Ctrl-C comes while nobody reads.
    """

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._lines: deque[str] = deque()
        self._rest = b""
        self._waiting_bytes = 0
        self._has_ended = False
        self._changed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Keep what came until it is read."""
        if data == CTRL_C:
            self._on_interrupt()
            return
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise ProtocolError("more input than is taken ahead")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(line.decode("utf-8", "replace") for line in lines)
        self._changed.set()

    def end(self) -> None:
        """Let the line that has no newline be the last."""
        if self._rest:
            self._lines.append(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        self._has_ended = True
        self._changed.set()

    def resize(self, columns: int, rows: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    async def read(
        self, prompt: str, history: SharedHistory, completer: Completer | None = None
    ) -> str:
        """Return the next line, without its end."""
        del prompt, history, completer
        while not self._lines:
            if self._has_ended:
                raise EOFError
            self._changed.clear()
            await self._changed.wait()
        line = self._lines.popleft()
        self._waiting_bytes = sum(map(len, self._lines)) + len(self._rest)
        return line.rstrip("\r")

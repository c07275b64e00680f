"""prompt_toolkit on a client's terminal, which is at the other end of a socket."""

from __future__ import annotations

import asyncio
import codecs
import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import Input, typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from kagent_sdk.debug.prompter import InterruptError
from kagent_sdk.errors import ProtocolError

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

    from kagent_sdk.debug.history import SharedHistory

MAX_TYPED_BYTES = 16 * 1024
"""For one line, with all editing, and what is typed ahead."""

KEYS_AT_ONCE = 64
"""A key takes up to a millisecond: other sessions have their turn between so many."""

_numbers = itertools.count(1)


class SocketInput(Input):
    """Keys from bytes that came over the socket; no descriptor, so there is none to fill up or leak.

    Args:
        on_interrupt: is told when Ctrl-C is typed while no prompt is shown.
    """

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self._on_interrupt = on_interrupt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._keys: list[KeyPress] = []
        self._parser = Vt100Parser(self._keys.append)
        self._ready: Callable[[], None] | None = None
        self._has_ended = False
        self._fed_bytes = 0
        self._hash = f"debug-{next(_numbers)}"

    def feed(self, data: bytes) -> None:
        """Take what was typed.

        Raises:
            ProtocolError: it is more than anyone types for one line.
        """
        self._fed_bytes += len(data)
        if self._fed_bytes > MAX_TYPED_BYTES:
            raise ProtocolError("more input than one line takes")
        known = len(self._keys)
        self._parser.feed(self._decoder.decode(data))
        if self._ready is not None:
            self._tell()
        elif any(key.key == Keys.ControlC for key in self._keys[known:]):
            self._keys.clear()
            self._on_interrupt()

    def end(self) -> None:
        """Let prompts end with EOFError once what was typed is used up."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        if self._ready is not None:
            self._ready()

    def begin_line(self) -> None:
        """Count anew: another line is asked for."""
        self._fed_bytes = 0

    def forget(self) -> None:
        """Let prompt_toolkit forget what was typed ahead; it keeps that by input, for ever."""
        typeahead._buffer.pop(self._hash, None)  # noqa: SLF001 - it has no other way

    def fileno(self) -> int:
        """There is none."""
        raise io.UnsupportedOperation("fileno")

    def typeahead_hash(self) -> str:
        """Tell this input from others."""
        return self._hash

    def read_keys(self) -> list[KeyPress]:
        """Return the first keys that came; the others are told of in another turn of the loop."""
        keys = self._keys[:KEYS_AT_ONCE]
        del self._keys[:KEYS_AT_ONCE]
        if self._keys:
            asyncio.get_running_loop().call_soon(self._tell)
        return keys

    def flush_keys(self) -> list[KeyPress]:
        """Return those too that could be the beginning of a longer one, such as Escape."""
        self._parser.flush()
        return self.read_keys()

    @property
    def closed(self) -> bool:
        """Whether no more keys come."""
        return self._has_ended and not self._keys

    def raw_mode(self) -> AbstractContextManager[None]:
        """Do nothing: the client sets its terminal."""
        return nullcontext()

    def cooked_mode(self) -> AbstractContextManager[None]:
        """Do nothing: the client sets its terminal."""
        return nullcontext()

    @contextmanager
    def attach(self, input_ready_callback: Callable[[], None]) -> Iterator[None]:
        """Tell of keys, also of those that are here already."""
        before, self._ready = self._ready, input_ready_callback
        try:
            if self._keys or self._has_ended:
                input_ready_callback()
            yield
        finally:
            self._ready = before

    @contextmanager
    def detach(self) -> Iterator[None]:
        """Tell of no keys for a while."""
        before, self._ready = self._ready, None
        try:
            yield
        finally:
            self._ready = before


class _Screen(io.StringIO):
    """The file that `Vt100_Output` writes to; it hands on what it gets."""

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__()
        self._send = send

    def write(self, text: str, /) -> int:
        self._send(text)
        return len(text)


class TerminalPrompter:
    """Prompts on a terminal, with history, completion and editing.

    Args:
        send: takes what is to appear on the terminal.
        on_interrupt: is told when Ctrl-C is typed while no prompt is shown.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        term: str,
        send: Callable[[str], None],
        on_interrupt: Callable[[], None],
    ) -> None:
        self._size = size
        self._input = SocketInput(on_interrupt)
        self._session: PromptSession[str] | None = None
        # Asked for its cursor's place, a terminal answers with input; one that does not is waited for.
        self._output = Vt100_Output(
            cast("TextIO", _Screen(send)), self._get_size, term=term, enable_cpr=False
        )

    def feed(self, data: bytes) -> None:
        """Take what was typed."""
        self._input.feed(data)

    def end(self) -> None:
        """Take it that nothing more is typed."""
        self._input.end()

    def resize(self, columns: int, rows: int) -> None:
        """Draw the prompt for another size."""
        self._size = (columns, rows)
        if self._session is not None and self._session.app.is_running:
            self._session.app._on_resize()  # noqa: SLF001 - as prompt_toolkit's telnet server does

    async def read(
        self, prompt: str, history: SharedHistory, completer: Completer | None = None
    ) -> str:
        """Show the prompt, and return what is entered."""
        self._input.begin_line()
        try:
            with create_app_session(input=self._input, output=self._output):
                self._session = PromptSession(
                    FormattedText([("bold ansicyan", prompt)]),
                    completer=completer,
                    complete_while_typing=False,
                    complete_style=CompleteStyle.READLINE_LIKE,
                    history=history.view(),
                    input=self._input,
                    output=self._output,
                )
                self._session.app.terminal_size_polling_interval = None  # `resize` tells it
                # The loop's handler of exceptions is the server's, and signals are the agent's.
                return await self._session.prompt_async(
                    set_exception_handler=False, handle_sigint=False
                )
        except KeyboardInterrupt:
            raise InterruptError from None
        finally:
            self._session = None

    def close(self) -> None:
        """Drop what was typed ahead."""
        self._input.forget()

    def _get_size(self) -> Size:
        return Size(rows=self._size[1], columns=self._size[0])

"""One connection of the debug socket: its frames on one side, a terminal or a command on the other."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import shlex
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO, cast

from kagent_sdk.debug.outbox import Outbox
from kagent_sdk.debug.output import RedactingWriter
from kagent_sdk.debug.prompter import InterruptError, LinePrompter, Prompter, usable_size
from kagent_sdk.debug.running import INTERRUPTED, CommandSession, Running
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.debug import FrameReader, Hello, Kind, parse_resize

if TYPE_CHECKING:
    from kagent_sdk.debug.shell import Shell

USAGE = 2

READ_BYTES = 64 * 1024

CLOSE_S = 2.0
"""What is sent already may take so long to be read."""

THREAD_END_S = 2.0
"""A command that was given up may take so long to clean up before the session counts as over."""

MAX_TOLD_CHARS = 500
"""Of a command line, in the log."""


async def serve_session(
    connection: socket.socket,
    hello: Hello,
    on_command: Callable[[str], None],
    get_shell: Callable[[], Shell],
) -> None:
    """Serve a client until it is done, gone or out of order. The connection is closed at the end."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    session = DebugSession(hello, on_command, get_shell)
    jobs = [
        asyncio.ensure_future(job)
        for job in (session.receive(reader), session.outbox.pump(writer), session.run())
    ]
    receiving, sending, _ = jobs
    try:
        # The one that sends ends last, behind EXIT; the one that receives, when the client is gone.
        await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not _has_sent_all(sending):
            writer.transport.abort()
        session.outbox.close()
        for job in jobs:
            job.cancel()
        for outcome in await asyncio.gather(*jobs, return_exceptions=True):
            _log_fault(outcome)
        await _close(writer)


def _has_sent_all(sending: asyncio.Future[None]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None


def _log_fault(outcome: object) -> None:
    """Put on record what is no fault of the client's, such as one of prompt_toolkit's."""
    if isinstance(outcome, Exception) and not isinstance(outcome, ProtocolError | OSError):
        log = logging.getLogger(__name__)
        log.error("debug_session_failed", exc_info=outcome)


async def _close(writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


class DebugSession:
    """What one client wants, and gets."""

    def __init__(
        self, hello: Hello, on_command: Callable[[str], None], get_shell: Callable[[], Shell]
    ) -> None:
        self._hello = hello
        self._on_command = on_command
        self._get_shell = get_shell
        self._is_screen = hello.command is None and hello.is_terminal
        self._is_at_line_start = True
        self._columns, self._rows = usable_size(hello.columns, hello.rows)
        self._prompter: Prompter | None = None
        self._can_take = asyncio.Event()
        self._running: Running | None = None
        self.outbox = Outbox()

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Take the client's frames until it is gone.

        Raises:
            ProtocolError: it sends something else.
            OSError: the connection broke.
        """
        await self._can_take.wait()
        frames = FrameReader()
        while data := await reader.read(READ_BYTES):
            for kind, payload in frames.feed(data):
                self._take(kind, payload)

    async def run(self) -> None:
        """Do what the client came for, and send the exit code."""
        code = 1
        try:
            code = await self._serve(self._get_shell())
        except Exception as error:
            self._send(Kind.ERROR, f"error: the debug server failed: {type(error).__name__}\n")
            raise
        finally:
            self.outbox.finish(code)

    async def _serve(self, shell: Shell) -> int:
        self._prompter = prompter = self._make_prompter()
        self._can_take.set()
        try:
            if self._hello.command is not None:
                return await self._execute(shell, self._hello.command)
            return await self._converse(shell, prompter)
        finally:
            prompter.close()

    def _make_prompter(self) -> Prompter:
        if not self._is_screen:
            return LinePrompter(self._interrupt)
        from kagent_sdk.debug.terminal import TerminalPrompter  # noqa: PLC0415 - for terminals only

        return TerminalPrompter(
            size=(self._columns, self._rows),
            term=self._hello.term,
            send=partial(self._send, Kind.OUTPUT),
            on_interrupt=self._interrupt,
        )

    async def _converse(self, shell: Shell, prompter: Prompter) -> int:
        """Run line after line; return the code of the last when they were piped in."""
        from kagent_sdk.debug.completion import CommandCompleter  # noqa: PLC0415 - loads its libraries
        from kagent_sdk.debug.shell import LEAVE_WORDS  # noqa: PLC0415

        completer = CommandCompleter(shell.group, self._session(shell, io.StringIO()))
        code = 0
        self._say_hello(shell)
        while True:
            try:
                words = shlex.split(
                    await prompter.read(f"{shell.agent_name} › ", shell.history, completer)
                )
            except InterruptError:
                continue
            except EOFError:
                break
            except ValueError as error:
                self._send(Kind.ERROR, f"error: {error}\n".lower())
                code = USAGE
                continue
            if words and words[0] in LEAVE_WORDS and len(words) == 1:
                break
            if words:
                code = await self._execute(shell, words)
        return 0 if self._is_screen else code

    def _say_hello(self, shell: Shell) -> None:
        if self._is_screen:
            self._send(
                Kind.OUTPUT,
                f"{shell.agent_name}, process {os.getpid()}\n"
                "`help` lists the commands, Tab completes, Ctrl-C ends a command, Ctrl-D leaves.\n",
            )

    async def _execute(self, shell: Shell, words: Sequence[str]) -> int:
        self._on_command(shell.inspected.redact(shlex.join(words))[:MAX_TOLD_CHARS])
        if not shell.take_slot():
            self._send(Kind.ERROR, "error: too many commands run already: wait for one to end\n")
            return 1
        assert self._prompter is not None
        self._is_at_line_start = True
        self._running = running = Running(self._prompter)
        try:
            running.start(self._work(shell, words, running), shell.give_slot)
            code = await running.code
        except asyncio.CancelledError:
            running.give_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(THREAD_END_S):
                    await running.thread_ended.wait()
            raise
        finally:
            self._running = None
        if self._is_screen:
            # The prompt begins a line of its own.
            end = "" if self._is_at_line_start else "\n"
            self._send(Kind.OUTPUT, "^C\n" if code == INTERRUPTED else end)
        return code

    def _work(self, shell: Shell, words: Sequence[str], running: Running) -> Callable[[], int]:
        """Return what the command's thread does. Its output is dropped once it was given up."""
        out = self._writer(shell, running, Kind.OUTPUT)
        errors = out if self._is_screen else self._writer(shell, running, Kind.ERROR)
        session = self._session(shell, cast("TextIO", out), running, out.finish)

        def work() -> int:
            code = shell.run(words, session, cast("TextIO", errors))
            with contextlib.suppress(OSError):
                out.finish()
                errors.finish()
            return code

        return work

    def _session(
        self,
        shell: Shell,
        out: TextIO,
        running: Running | None = None,
        end_line: Callable[[], None] = lambda: None,
    ) -> CommandSession:
        return CommandSession(
            shell.inspected,
            out,
            shell.memory,
            width=self._columns,
            is_over=running.is_over if running else lambda: False,
            jobs=shell.jobs,
            history=shell.console_history,
            running=running,
            is_screen=self._is_screen,
            end_line=end_line,
        )

    def _writer(self, shell: Shell, running: Running, kind: Kind) -> RedactingWriter:
        def send(text: str) -> None:
            if running.is_over():
                raise BrokenPipeError("nobody waits for this command any more")
            self._send(kind, text)
            self._is_at_line_start = text.endswith("\n")

        return RedactingWriter(shell.inspected.redact, send)

    def _take(self, kind: Kind, payload: bytes) -> None:
        assert self._prompter is not None
        if kind is Kind.INPUT:
            self._prompter.feed(payload)
        elif kind is Kind.END:
            self._prompter.end()
        elif kind is Kind.RESIZE:
            self._columns, self._rows = usable_size(*parse_resize(payload))
            self._prompter.resize(self._columns, self._rows)
        else:
            raise ProtocolError(f"{kind.name} is the agent's to send")

    def _interrupt(self) -> None:
        if self._running is not None:
            self._running.interrupt()

    def _send(self, kind: Kind, text: str) -> None:
        if self._is_screen:
            # The client's terminal is in raw mode: a newline alone does not return.
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        self.outbox.put(kind, text.encode("utf-8", "replace"))

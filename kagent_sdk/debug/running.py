"""One command that runs, in a thread of its own: it may block, and it may be given up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.debug.port import Session

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

    from kagent_sdk.debug.console_jobs import JobTracker
    from kagent_sdk.debug.history import SharedHistory
    from kagent_sdk.debug.prompter import Prompter

INTERRUPTED = 130
"""The code of a command that Ctrl-C ended, as in a shell."""


class Running:
    """The life of a command. Made in the server's thread, which alone calls `start` and the like."""

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._is_over = False
        self._listener: Callable[[], None] | None = None
        self._asking: concurrent.futures.Future[str] | None = None
        self.code: asyncio.Future[int] = self._loop.create_future()
        self.thread_ended = asyncio.Event()

    def start(self, work: Callable[[], int], on_thread_end: Callable[[], None]) -> None:
        """Run in a new thread; `code` gets the result, unless it is given up before."""
        context = contextvars.copy_context()

        def run() -> None:
            code = 1
            try:
                code = context.run(work)
            finally:
                on_thread_end()
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._end, code)

        threading.Thread(target=run, name="debug command", daemon=True).start()

    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._is_over

    def interrupt(self) -> None:
        """Do what Ctrl-C means to it: give it up, unless it knows better (`listening`)."""
        with self._lock:
            listener = self._listener
        if listener is None:
            self.give_up()
        else:
            listener()

    def give_up(self) -> None:
        """Wait for it no longer: its thread may go on, but its output is dropped."""
        with self._lock:
            self._is_over = True
            listener, asking = self._listener, self._asking
        if asking is not None:
            asking.cancel()
        if listener is not None:
            listener()
        if not self.code.done():
            self.code.set_result(INTERRUPTED)

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Tell of Ctrl-C, and when it is given up, on any thread. For the command's thread."""
        with self._lock:
            self._listener = listener
            is_late = self._is_over
        if is_late:
            listener()
        try:
            yield
        finally:
            with self._lock:
                self._listener = None

    def ask(self, prompt: str, history: SharedHistory, completer: Completer | None = None) -> str:
        """Return the next line that the user types. For the command's thread.

        Raises:
            EOFError: there is none, or nobody waits any more.
            InterruptError: Ctrl-C.
        """
        with self._lock:
            if self._is_over:
                raise EOFError
            reading = self._prompter.read(prompt, history, completer)
            self._asking = asyncio.run_coroutine_threadsafe(reading, self._loop)
        try:
            return self._asking.result()
        except concurrent.futures.CancelledError:
            raise EOFError from None
        finally:
            self._asking = None

    def _end(self, code: int) -> None:
        self.thread_ended.set()
        if not self.code.done():
            self.code.set_result(code)


@dataclass(frozen=True, slots=True)
class CommandSession(Session):
    """What the commands that belong to the server are run with besides.

    Attributes:
        jobs: where a console tracks its jobs.
        history: what was typed into consoles.
        is_screen: whether a person sits at a terminal.
        end_line: passes on a line that was written without its end.
    """

    jobs: JobTracker | None = None
    history: SharedHistory | None = None
    running: Running | None = None
    is_screen: bool = False
    end_line: Callable[[], None] = lambda: None

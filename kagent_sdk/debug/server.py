"""The debug server of a worker: takes connections, and serves each on a thread that is its own.

Because the thread has an event loop of its own, it answers while the agent's loop is blocked. The
thread, aiomonitor and what that needs come with the first connection: 0.3 to 0.6 s of CPU in that
thread and 25 MB that stay, most of it aiohttp, which aiomonitor imports for the web UI that we do
not start. An agent that is never debugged pays nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kagent_sdk.debug.port import Inspected
from kagent_sdk.protocol.debug import Hello

if TYPE_CHECKING:
    from kagent_sdk.debug.shell import Shell

CLOSE_S = 1.0
"""`DebugServer.close` waits so long at most."""

MakeCommands = Callable[[], Iterable[Any]]
"""Makes click commands; each is run with a `kagent_sdk.debug.port.Session` as ``ctx.obj``."""


@dataclass(eq=False, slots=True)
class Attachment:
    """A connection that the server owns."""

    connection: socket.socket
    hello: Hello
    on_command: Callable[[str], None]
    on_end: Callable[[], None]
    _ended: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        """Close the connection and tell of it; only the first call does."""
        if self._ended.acquire(blocking=False):
            # A wedged thread may still have it: the client must see the end all the same.
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()
            self.on_end()


class DebugServer:
    """Serves debug sessions of one worker. All methods may be called from any thread."""

    def __init__(self, inspected: Inspected, *, make_commands: MakeCommands | None = None) -> None:
        self._inspected = inspected
        self._make_commands = make_commands or _commands_of_ours
        self._lock = threading.Lock()
        self._attachments: set[Attachment] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Future[None] | None = None
        self._is_closed = False
        self._shell: Shell | None = None

    def attach(
        self,
        connection: socket.socket,
        hello: Hello,
        *,
        on_command: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        """Serve a connection whose Welcome has been sent; return at once. Takes its ownership.

        Args:
            connection: a socket of AF_UNIX, at its first frame.
            hello: what its client wants.
            on_command: is told each command line before it runs, without secrets; on any thread.
            on_end: called once, on any thread, when the session is over and the connection closed.
        """
        attachment = Attachment(connection, hello, on_command, on_end)
        with self._lock:
            if not self._is_closed:
                self._attachments.add(attachment)
                self._running_loop().call_soon_threadsafe(self._begin, attachment)
                return
        attachment.end()

    def close(self) -> None:
        """End all sessions and the thread; wait `CLOSE_S` for them at most. Idempotent."""
        with self._lock:
            self._is_closed = True
            thread, loop = self._thread, self._loop
            if thread is not None and loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)
        for attachment in tuple(self._attachments):
            self._end(attachment)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            # Not what the agent's policy makes: this loop must not be the author's choice.
            self._loop = asyncio.SelectorEventLoop()
            self._stopping = self._loop.create_future()
            self._thread = threading.Thread(
                target=self._run, args=(self._loop, self._stopping), name="debug", daemon=True
            )
            self._thread.start()
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop, stopping: asyncio.Future[None]) -> None:
        try:
            loop.run_until_complete(self._main(stopping))
        finally:
            loop.close()

    async def _main(self, stopping: asyncio.Future[None]) -> None:
        await stopping
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _stop(self) -> None:
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(None)

    def _begin(self, attachment: Attachment) -> None:
        job = asyncio.get_running_loop().create_task(self._serve(attachment))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _serve(self, attachment: Attachment) -> None:
        from kagent_sdk.debug.session import serve_session  # noqa: PLC0415 - at the first attach

        try:
            await serve_session(
                attachment.connection, attachment.hello, attachment.on_command, self._get_shell
            )
        finally:
            self._end(attachment)

    def _get_shell(self) -> Shell:
        """Return what sessions share; made in the server's thread, so aiomonitor is loaded there."""
        if self._shell is None:
            # Its import of an old name of click's must neither be reported to an author who never
            # saw it, nor fail where warnings are errors.
            warnings.filterwarnings(
                "ignore", r"Importing 'parser\.", DeprecationWarning, r"aiomonitor\."
            )
            from kagent_sdk.debug.shell import Shell  # noqa: PLC0415 - loads aiomonitor

            self._shell = Shell(self._inspected, self._make_commands())
        return self._shell

    def _end(self, attachment: Attachment) -> None:
        with self._lock:
            self._attachments.discard(attachment)
        attachment.end()


def _commands_of_ours() -> Iterable[Any]:
    from kagent_sdk.debug.commands import make_commands  # noqa: PLC0415 - loads click

    commands: Iterable[Any] = make_commands()
    return commands

"""Takes debug sessions from the host, on a thread of its own: the event loop may be what hangs.

The thread waits in the kernel and imports nothing of `kagent_sdk.debug` before the first session.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from kagent_sdk.worker.tracebacks import print_exception

if TYPE_CHECKING:
    from kagent_sdk.debug.port import Inspected
    from kagent_sdk.debug.server import DebugServer
    from kagent_sdk.protocol.debug import Hello

MAX_MESSAGE_BYTES = 64 * 1024
DESCRIPTORS = 2

MAX_COMMAND_CHARS = 900
"""Of a report: with four bytes for each character it still fits into PIPE_BUF (pipe(7))."""


class Report:
    """Where the host hears of one session: what is run, and by its end that the session is over.

    Args:
        descriptor: the host's pipe; its own from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    def tell(self, command: str) -> None:
        """Say that a command is run; left out when the host does not keep up. Never waits."""
        shown = "".join(char if char.isprintable() else "?" for char in command[:MAX_COMMAND_CHARS])
        line = json.dumps({"command": shown}, ensure_ascii=False)
        with self._lock, suppress(OSError):
            if self._descriptor is not None:
                os.write(self._descriptor, line.encode(errors="replace") + b"\n")

    def close(self) -> None:
        """Say that the session is over; may be called again."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def close_in_child(self) -> None:
        """Do the same in a forked process, where the lock may be held for ever."""
        if self._descriptor is not None:
            os.close(self._descriptor)


class DebugReceiver:
    """Hands the sessions that come on a channel to the `DebugServer`.

    Args:
        descriptor: of the worker's end; its own from now on.
        inspected: the worker, as commands see it.
    """

    def __init__(self, descriptor: int, inspected: Inspected) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.setblocking(True)  # noqa: FBT003 - the standard library's way
        self._channel.set_inheritable(False)
        self._inspected = inspected
        self._server: DebugServer | None = None
        self._open: dict[Report, socket.socket] = {}
        self._thread = threading.Thread(target=self._receive, name="kagent-debug", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        os.register_at_fork(after_in_child=self._close_in_child)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all sessions."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        if self._server is not None:
            self._server.close()

    def _receive(self) -> None:
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        while True:
            wait_for_session(poller)
            try:
                message, descriptors = receive(self._channel)
            except OSError:
                return
            if not message:
                _close_all(descriptors)
                return
            if len(descriptors) != DESCRIPTORS:  # there was no room for more of them
                _close_all(descriptors)
                continue
            try:
                self._begin(message, *descriptors)
            except Exception as exc:  # noqa: BLE001 - the boundary of the thread
                print_exception("a debug session could not begin:", exc)

    def _begin(self, message: bytes, connection_fd: int, report_fd: int) -> None:
        report = Report(report_fd)
        connection = socket.socket(fileno=connection_fd)
        self._open[report] = connection

        def end() -> None:
            self._open.pop(report, None)
            report.close()

        try:
            server = self._find_server()
            server.attach(connection, _hello_in(message), on_command=report.tell, on_end=end)
        except BaseException:
            connection.close()
            end()
            raise

    def _find_server(self) -> DebugServer:
        if self._server is None:
            from kagent_sdk.debug.server import DebugServer  # noqa: PLC0415 - who debugs pays

            self._server = DebugServer(self._inspected)
        return self._server

    def _close_in_child(self) -> None:
        """Leave a forked child nothing: the host waits for the ends of all of these."""
        self._channel.close()
        for report, connection in tuple(self._open.items()):
            report.close_in_child()
            connection.close()


def wait_for_session(poller: select.poll) -> None:
    """Wait in the kernel; a function of its own, so that profiles know the thread as a waiting one."""
    poller.poll()  # holds no buffer meanwhile, as recvmsg(2) would


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it; nothing when the other end is gone.

    No process that the author's code starts meanwhile inherits them (recvmsg(2), MSG_CMSG_CLOEXEC).

    Raises:
        OSError: the channel is closed.
    """
    descriptors = array.array("i")
    room = socket.CMSG_LEN(DESCRIPTORS * descriptors.itemsize)
    message, ancillary, _, _ = channel.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def _hello_in(message: bytes) -> Hello:
    from kagent_sdk.protocol.debug import Hello  # noqa: PLC0415 - as the server

    values: dict[str, Any] = json.loads(message)
    command = values["command"]
    return Hello(
        command=None if command is None else tuple(command),
        columns=values["columns"],
        rows=values["rows"],
        term=values["term"],
        is_terminal=values["is_terminal"],
    )


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

"""The way of debug sessions to one worker: descriptors over a socketpair of their own.

Not the frames' one: that is read by the worker's event loop, which may be what hangs.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from kagent_sdk.protocol.debug import Hello

CHANNEL_TYPE = socket.SOCK_SEQPACKET
"""Keeps messages apart; one is a JSON object (``session``, and the Hello's fields) and two
descriptors: the connection, and where the worker reports to."""


class DebugChannel:
    """The host's end of the channel to one worker."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)  # noqa: FBT003 - the standard library's way
        self._end = end
        self._listeners: set[Callable[[], None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a worker at its other end, as far as is known."""
        return self._end.fileno() >= 0

    def hand_over(self, session: int, hello: Hello, connection: socket.socket) -> int:
        """Give a connection to the worker; return the descriptor on which it reports.

        That one ends when the worker has done with the session, or is gone. What was given waits
        in the kernel until the worker takes it.

        Raises:
            OSError: the worker is gone, or takes no more.
        """
        message = {
            "session": session,
            "command": hello.command,
            "columns": hello.columns,
            "rows": hello.rows,
            "term": hello.term,
            "is_terminal": hello.is_terminal,
        }
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            socket.send_fds(
                self._end,
                [json.dumps(message).encode()],
                [connection.fileno(), theirs],
                socket.MSG_NOSIGNAL,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    def on_close(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call something when the worker is gone; return what takes it off again."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def close(self) -> None:
        """Say that the worker is gone."""
        self._end.close()
        for listener in tuple(self._listeners):
            listener()

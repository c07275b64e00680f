"""A task's progress on its way to the host: often said, seldom sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import MAX_MESSAGE_CHARS, encode_progress
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.mailbox import Mailbox
from kagent_sdk.worker.turns import DONE, Turns

INTERVAL_S = 0.05
"""About 20 updates a second: more than a person can read."""

Progress = tuple[float | None, str | None]


def check_progress(fraction: float | None, message: str | None) -> Progress:
    """Return what may be sent: a fraction within 0 and 1, and a message of bounded length.

    Raises:
        TypeError: ``fraction`` is not a number, or ``message`` not a string.
        ValueError: ``fraction`` is NaN.
    """
    if fraction is not None:
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise TypeError(f"progress: fraction must be a number, not {fraction!r}")
        if fraction != fraction:  # noqa: PLR0124 - NaN is the one number that differs from itself
            raise ValueError("progress: fraction must be a number from 0 to 1, not NaN")
        # Sums of floats end a hair above 1: no reason to fail a task.
        fraction = float(min(1, max(0, fraction)))
    if message is not None:
        if not isinstance(message, str):
            raise TypeError(f"progress: message must be a string, not {type(message).__name__}")
        message = message[:MAX_MESSAGE_CHARS]
    return fraction, message


class ProgressReport:
    """The progress of one task: the first update travels at once, later ones coalesced.

    Args:
        clock: seconds, monotonic; the loop's, by which the rest is sent, if None.

    Attributes:
        last: what was reported last; None before.
    """

    __slots__ = (
        "_clock",
        "_connection",
        "_is_closed",
        "_is_posted",
        "_latest",
        "_loop",
        "_mailbox",
        "_number",
        "_sent_at_s",
        "_timer",
        "_turns",
        "last",
    )

    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        mailbox: Mailbox,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._number = number
        self._loop = loop
        self._connection = connection
        self._mailbox = mailbox
        self._clock = clock or loop.time
        self.last: Progress | None = None
        self._latest: Progress | None = None
        self._sent_at_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._is_posted = False
        self._is_closed = False
        self._turns = Turns()

    def report(self, progress: Progress) -> Awaitable[None]:
        """Take an update in the loop's thread."""
        self._latest = self.last = progress
        self._pump()
        return self._turns.next()

    def report_from_thread(self, progress: Progress) -> Awaitable[None]:
        """Take an update in any other thread."""
        self._latest = self.last = progress
        # The same order as in `Mailbox.post`: never lost, seldom posted twice.
        if not self._is_posted:
            self._is_posted = True
            self._mailbox.post(self._pump_posted)
        return DONE

    def close(self) -> None:
        """Send the last update if it has not been, and nothing after that."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._latest is not None:
            self._send(self._latest)
        self._is_closed = True

    def _pump_posted(self) -> None:
        self._is_posted = False
        self._pump()

    def _pump(self) -> None:
        if self._timer is not None or self._latest is None or self._is_closed:
            return
        wait_s = self._sent_at_s + INTERVAL_S - self._clock()
        if wait_s > 0:
            self._timer = self._loop.call_later(wait_s, self._on_timer)
        elif self._connection.is_full:
            self._timer = self._loop.call_later(INTERVAL_S, self._on_timer)
        else:
            self._send(self._latest)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    def _send(self, progress: Progress) -> None:
        self._latest = None
        self._sent_at_s = self._clock()
        self._connection.send(Kind.PROGRESS, self._number, encode_progress(*progress))

"""Readers of a task's events, each at its own pace; the slowest one paces the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kagent_sdk.journal.events import Event, EventLog
from kagent_sdk.protocol.messages import EVENT_WINDOW_BYTES

ACK_SHARE = 4
"""Acknowledge when this part of the window is taken: few frames, and the worker never idles."""


class Followers:
    """All readers of one task's events.

    The worker may have a window of events that nobody has taken. Without readers an event counts
    as taken at once; with readers when the slowest has it. So a reader that stops reading stops
    the worker's stream, not the host's memory.

    Args:
        log: the task's events.
        window: how many unacknowledged events the worker may have.
        acknowledge: sends an ACK for that many events to the worker.
    """

    __slots__ = ("_acknowledge", "_items", "_log", "_readers", "_sizes", "_window")

    def __init__(self, log: EventLog, window: int, acknowledge: Callable[[int], None]) -> None:
        self._log = log
        self._window = window
        self._acknowledge = acknowledge
        self._readers: set[Follower] = set()
        self._items: list[int] = []
        self._sizes: list[int] = []

    def __len__(self) -> int:
        return len(self._readers)

    def follow(self, after_id: int = 0) -> Follower:
        """Return a reader that starts behind the event ``after_id``; leave it with `close`."""
        reader = Follower(self, self._log, after_id)
        self._readers.add(reader)
        return reader

    def publish(self, event: Event) -> None:
        """Show a new event to the readers; acknowledge it to the worker when nobody reads."""
        self._log.release(event.id)
        if event.kind == "event":
            self._items.append(event.id)
            self._sizes.append(len(event.data))
        for reader in self._readers:
            reader.wake()
        # Over the window the worker keeps to no rule: what fell out of the log is noted no longer.
        if not self._readers or len(self._items) > self._window:
            self.settle()

    def settle(self) -> None:
        """Acknowledge what every reader has taken, a share of the window at a time."""
        slowest = min((reader.taken_id for reader in self._readers), default=self._log.released_id)
        slowest = max(slowest, self._log.first_id - 1)
        taken = taken_bytes = 0
        while taken < len(self._items) and self._items[taken] <= slowest:
            taken_bytes += self._sizes[taken]
            taken += 1
        is_much = taken_bytes * ACK_SHARE >= EVENT_WINDOW_BYTES
        if taken and (is_much or taken * ACK_SHARE >= self._window):
            del self._items[:taken], self._sizes[:taken]
            self._acknowledge(taken)

    def wake(self) -> None:
        """Let the readers look whether anything will come any more."""
        for reader in self._readers:
            reader.wake()

    def restart(self) -> None:
        """Forget what is not acknowledged: a new attempt starts with a fresh window."""
        self._items.clear()
        self._sizes.clear()

    def discard(self, reader: Follower) -> None:
        """Let a reader go; the others may now be further than it was."""
        self._readers.discard(reader)
        self.settle()


class Follower:
    """One reader: hands out batches of events in order."""

    __slots__ = ("_followers", "_log", "_waiter", "missed", "taken_id")

    def __init__(self, followers: Followers, log: EventLog, after_id: int) -> None:
        self._followers = followers
        self._log = log
        self._waiter: asyncio.Future[None] | None = None
        self.taken_id = min(after_id, log.released_id)
        self.missed = 0

    @property
    def is_at_end(self) -> bool:
        """Whether this reader has had everything that there will ever be."""
        return self._log.is_closed and self._log.released_id <= self.taken_id

    def wake(self) -> None:
        """Tell the reader that there is something new."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next_batch(self) -> list[Event]:
        """Wait for events that this reader has not had, and return them.

        `missed` then says how many fell out of the window before they could be read. The batch
        counts as taken when the next one is asked for. It is empty when nothing will come any more.
        """
        self._followers.settle()
        while not (batch := self._log.after(self.taken_id)):
            if self._log.is_closed:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self.missed = max(0, self._log.first_id - self.taken_id - 1)
        self.taken_id = batch[-1].id
        return batch

    def close(self) -> None:
        """Stop reading."""
        self._followers.discard(self)

"""The items of a call that streams: taken in by the event loop, read by a job or a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Self

from kagent_sdk.context.pending import is_in_event_loop
from kagent_sdk.protocol.messages import CALL_WINDOW, CALL_WINDOW_BYTES

ACK_SHARE = 4
"""Acknowledge when this part of the window was read: few frames, and the sender never idles."""


class Inflow:
    """What has come of one stream and was not read yet. The host keeps it within the window.

    Args:
        acknowledge: tells the host of so many items that were read.
        cancel: tells the host that nobody wants more.
    """

    __slots__ = (
        "_acknowledge",
        "_cancel",
        "_error",
        "_is_ended",
        "_items",
        "_lock",
        "_read",
        "_read_bytes",
        "_waiter",
    )

    def __init__(self, acknowledge: Callable[[int], None], cancel: Callable[[], None]) -> None:
        self._acknowledge = acknowledge
        self._cancel = cancel
        # One that its holder may take again: a garbage collection in `add` may call `close`.
        self._lock = threading.RLock()
        self._items: deque[bytes] = deque()
        self._read = 0
        self._read_bytes = 0
        self._is_ended = False
        self._error: BaseException | None = None
        self._waiter: Future[None] | None = None

    # By the event loop

    def add(self, item: bytes) -> None:
        """Take one item."""
        with self._lock:
            if not self._is_ended:
                self._items.append(item)
        self._wake()

    def finish(self, output: bytes) -> None:
        """Let the reader end behind the last item."""
        del output
        with self._lock:
            self._is_ended = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Let the reader fail behind the last item; in any thread."""
        with self._lock:
            if not self._is_ended:
                self._error = error
            self._is_ended = True
        self._wake()

    # By the reader

    def take(self) -> bytes | Future[None] | None:
        """Return the next item, something to wait for before the next look, or None at the end.

        Raises:
            CallError: the other task failed; once, after that it is the end.
            RuntimeError: somebody waits for the next item already.
        """
        with self._lock:
            if self._items:
                return self._next()
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._is_ended:
                return None
            if self._waiter is not None and not self._waiter.done():
                raise RuntimeError("somebody waits for the next item of this stream already")
            self._waiter = Future()
            return self._waiter

    def close(self) -> None:
        """Drop what is there, and want no more; thread-safe, idempotent."""
        with self._lock:
            self._items.clear()
            self._error = None
            self._is_ended = True
        self._cancel()
        self._wake()

    def _next(self) -> bytes:
        item = self._items.popleft()
        self._read += 1
        self._read_bytes += len(item)
        is_much = self._read_bytes * ACK_SHARE >= CALL_WINDOW_BYTES
        if not self._is_ended and (is_much or self._read * ACK_SHARE >= CALL_WINDOW):
            self._acknowledge(self._read)
            self._read = self._read_bytes = 0
        return item

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            # The reader may have given up this wait: it asks again when it wants more.
            with suppress(InvalidStateError):
                waiter.set_result(None)


class CallItems:
    """The reader's end (`kagent_sdk.context.PendingItems`): cancels the call when it is let go of.

    Args:
        inflow: what comes.
        load: turns an item's raw JSON into what the author gets.
    """

    __slots__ = ("_inflow", "_load")

    def __init__(self, inflow: Inflow, load: Callable[[bytes], Any]) -> None:
        self._inflow = inflow
        self._load = load

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next item."""
        while isinstance(step := self._inflow.take(), Future):
            await asyncio.wrap_future(step)
        if step is None:
            raise StopAsyncIteration
        return self._loaded(step)

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Block this thread until the next item is there, and return it."""
        if is_in_event_loop():
            raise RuntimeError("this would block the event loop: write `async for … in ctx.stream`")
        while isinstance(step := self._inflow.take(), Future):
            step.result()
        if step is None:
            raise StopIteration
        return self._loaded(step)

    async def aclose(self) -> None:
        """Cancel the other task, if it has not ended."""
        self._inflow.close()

    def close(self) -> None:
        """Cancel the other task, if it has not ended."""
        self._inflow.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close."""
        self._inflow.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self._inflow.close()

    def __del__(self) -> None:
        self._inflow.close()

    def _loaded(self, item: bytes) -> Any:
        try:
            return self._load(item)
        except BaseException:
            self._inflow.close()
            raise

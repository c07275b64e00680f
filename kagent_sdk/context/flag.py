"""Something that happens once, for async code as for threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import suppress
from typing import Any


class Flag:
    """Something that happens once: test it, await it, or wait for it in a thread.

    ::

        if ctx.cancelled: ...             # anywhere
        await ctx.cancelled               # in async code, on any event loop
        ctx.cancelled.wait(timeout_s=1)   # in a sync function
    """

    __slots__ = ("_event", "_waiters")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        """Tell whether it happened."""
        return self._event.is_set()

    def __await__(self) -> Generator[Any, None, None]:
        """Return once it happened."""
        loop = asyncio.get_running_loop()
        waiter = (loop, loop.create_future())
        self._waiters.append(waiter)
        try:
            # Tested after the append: a `set` in another thread finds the waiter, or is seen here.
            if not self._event.is_set():
                yield from waiter[1]
        finally:
            self._waiters.remove(waiter)

    def __repr__(self) -> str:
        return f"<Flag {'set' if self else 'not set'}>"

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until it happens and return True, or False after ``timeout_s``.

        For sync functions: in an event loop it would block every other job of the loop.
        """
        return self._event.wait(timeout_s)

    def set(self) -> None:
        """Let it happen; idempotent and thread-safe. The runtime's business, not the author's."""
        self._event.set()
        for loop, future in tuple(self._waiters):
            with suppress(RuntimeError):  # a closed loop has nobody left who waits
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

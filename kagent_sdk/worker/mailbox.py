"""The way from any thread into the worker's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Call functions in the event loop's thread, in the order in which they were posted.

    Where ``loop.call_soon_threadsafe`` wakes the loop with a system call each time, many letters
    share one wake-up. Must be made in the loop's thread.
    """

    __slots__ = ("_is_called", "_letters", "_loop", "_thread_ident")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._is_called = False
        self._thread_ident = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether the caller is in the event loop's thread."""
        return threading.get_ident() == self._thread_ident

    def post(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function soon in the loop's thread; thread-safe. It must not raise.

        When the loop is closed, the worker is ending, and letters are dropped.
        """
        self._letters.append((function, arguments))
        # Without a lock: the loop clears the flag before it looks, so a letter that comes after
        # that finds the flag cleared and calls again, and one that came before is seen.
        if not self._is_called:
            try:
                self._is_called = True
                self._loop.call_soon_threadsafe(self._open)
            except BaseException:
                # If an interrupt landed here: without this, nobody would call the loop again.
                self._is_called = False
                if not self._loop.is_closed():
                    raise

    def _open(self) -> None:
        self._is_called = False
        letters = self._letters
        for _ in range(len(letters)):
            function, arguments = letters.popleft()
            function(*arguments)

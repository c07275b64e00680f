"""Awaitables for calls that are done when they return."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from typing import Any

TURN_EVERY_S = 0.005
"""How long a job that reports and emits without ever waiting may hold the event loop."""


class _Done:
    """Awaiting it returns at once."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class _Turn:
    """Awaiting it gives the event loop one turn."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield


DONE: Awaitable[None] = _Done()
TURN: Awaitable[None] = _Turn()


class Turns:
    """Give the event loop a turn now and then.

    An author's job that computes and only ever awaits `progress` and `emit` would otherwise keep
    the loop from sending, from hearing a cancellation and from showing its pulse. A turn each
    time would cost more than the sending.
    """

    __slots__ = ("_next_at_s",)

    def __init__(self) -> None:
        self._next_at_s = 0.0

    def next(self) -> Awaitable[None]:
        """Return an awaitable that is a turn of the loop if one is due."""
        now_s = time.monotonic()
        if now_s < self._next_at_s:
            return DONE
        self._next_at_s = now_s + TURN_EVERY_S
        return TURN

"""Who may change a key next, within one worker: politeness, for the host judges by versions."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Lock

from kagent_sdk.context.pending import Result, Steps


class KeyTurns:
    """Let those that change one key do it one after the other; thread-safe.

    A hundred that read a key together would send a hundred changes, of which the host can take one:
    and so on with the ninety-nine that are left.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: dict[str, deque[Future[None]]] = {}

    def run(self, key: str, steps: Steps[Result]) -> Steps[Result]:
        """Do something when it is its turn."""
        turn: Future[None] = Future()
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            is_first = len(queue) == 1
        try:
            if not is_first:
                yield turn
            return (yield from steps)
        finally:
            self._leave(key, turn)

    def _leave(self, key: str, turn: Future[None]) -> None:
        with self._lock:
            queue = self._queues[key]
            is_first = queue[0] is turn
            queue.remove(turn)
            if not queue:
                del self._queues[key]
            elif is_first:
                # One that has been cancelled leaves in its turn.
                with suppress(InvalidStateError):
                    queue[0].set_result(None)

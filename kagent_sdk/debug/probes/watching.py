"""Which lines run while memory grows: a hint at what C code takes, of which Python knows nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from kagent_sdk.debug.probes.native import malloc_bytes, read_memory
from kagent_sdk.debug.probes.sampling import is_waiting
from kagent_sdk.debug.probes.stacks import Place, author_place, stack_of_frame

NOWHERE = Place("", 0, "(no thread was seen running)")
MAX_PLACES = 10_000


@dataclass(slots=True)
class Growth:
    """What was seen.

    Attributes:
        looks: how often it looked.
        bytes: how much more malloc has handed out at the end than at the beginning.
        places: growth by the author's line that ran when it was noticed; what shrank is taken off.
    """

    looks: int = 0
    bytes: int = 0
    places: defaultdict[Place, float] = field(default_factory=lambda: defaultdict(float))


class GrowthWatch:
    """Looks at malloc and at the threads again and again.

    Growth is noticed a moment after it happened, so it is shared among the lines that were seen
    running then; if there is none, it goes to those of the look before.

    Args:
        hz: looks per second.
        measure: bytes that are taken.
    """

    def __init__(self, hz: float, measure: Callable[[], int] | None = None) -> None:
        self._period_s = 1 / hz
        self._measure = measure or _measure
        self._last_places: list[Place] = []
        self.growth = Growth()

    def run(
        self,
        seconds: float,
        is_over: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> Growth:
        """Look for so many seconds, or until it is over."""
        ends_at_s = clock() + seconds
        first = last = self._measure()
        while clock() < ends_at_s and not is_over():
            wait(self._period_s)
            now = self._measure()
            self._note(now - last)
            last = now
        self.growth.bytes = last - first
        return self.growth

    def _note(self, change: int) -> None:
        self.growth.looks += 1
        places = _running_places()
        if change:
            shared = places or self._last_places or [NOWHERE]
            for place in shared:
                if place in self.growth.places or len(self.growth.places) < MAX_PLACES:
                    self.growth.places[place] += change / len(shared)
        self._last_places = places


def _running_places() -> list[Place]:
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to the stacks of others
    frames.pop(threading.get_ident(), None)
    found = []
    for frame in frames.values():
        place = None if is_waiting(frame) else author_place(stack_of_frame(frame))
        if place is not None and place.is_author:
            found.append(place)
    return found


def _measure() -> int:
    taken = malloc_bytes()
    return taken if taken is not None else read_memory().rss or 0

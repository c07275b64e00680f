"""What the host counts: plain integers, cheap enough for every task. No I/O, no metrics library.

Everything here belongs to the event loop's thread. Another thread may read it (`Counters` is read
for ``/metrics`` in one): the numbers are then those of slightly different moments.

The number of series is bounded: capabilities come from the manifest, routes from the router.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

DURATION_BOUNDS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
)
"""Upper bounds of the histograms' buckets: from a call that only passes through to half an hour."""

UNDECLARED = "(undeclared)"
"""Stands for capabilities that left the manifest. No capability can be called so."""


CallWay = Literal["local", "link"]
"""Where a call of the author's code is answered: by this agent, or by way of the link."""

CallOutcome = Literal["completed", "failed", "timeout", "canceled", "unreachable", "refused"]
"""What became of it. ``refused``: it was not sent: too many calls, a circle, a task that has ended."""


class Histogram:
    """Durations, counted by `DURATION_BOUNDS_S`.

    Attributes:
        buckets: how many fell into each bucket; the last one is for those over every bound.
        sum_s: all of them together.
    """

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, took_s: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(DURATION_BOUNDS_S, took_s)] += 1
        self.sum_s += took_s

    def add(self, other: Histogram) -> None:
        """Count all that another histogram counted."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.sum_s += other.sum_s


class CapabilityCounters:
    """Tasks of one capability since the host started.

    Attributes:
        name: the capability's name.
        submitted: taken; not those rejected.
        completed: ended well.
        failed: ended with an error; timeouts and crashes of the worker too.
        canceled: ended because somebody asked for it.
        rejected: not taken.
        duration: from the start of its last attempt to its end, of all that ran.
    """

    __slots__ = ("canceled", "completed", "duration", "failed", "name", "rejected", "submitted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.submitted = 0
        self.completed = 0
        self.failed = 0
        self.canceled = 0
        self.rejected = 0
        self.duration = Histogram()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted yet."""
        return not (self.submitted or self.rejected)

    def add(self, other: CapabilityCounters) -> None:
        """Count all that another capability's counters counted."""
        self.submitted += other.submitted
        self.completed += other.completed
        self.failed += other.failed
        self.canceled += other.canceled
        self.rejected += other.rejected
        self.duration.add(other.duration)


class CallCounters:
    """Calls of the author's code that went one way, since the host started.

    Attributes:
        outcomes: how many had each outcome; all of them are there.
        duration: from the call to its answer, of all that were sent.
    """

    __slots__ = ("duration", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[CallOutcome, int] = dict.fromkeys(get_args(CallOutcome), 0)
        self.duration = Histogram()


@dataclass(frozen=True, slots=True)
class TaskTotals:
    """Tasks of all capabilities since the host started; see `CapabilityCounters`."""

    submitted: int
    completed: int
    failed: int
    canceled: int
    rejected: int


class Counters:
    """All that the host counts.

    Attributes:
        queue: how long tasks waited for a place, of all that got one.
        undeclared: tasks of capabilities that are not in the manifest any more.
        requests: answers of the control plane by route and HTTP status.
        calls: those of the author's code, by their way; a way that none has gone is not there.
    """

    __slots__ = ("_capabilities", "calls", "queue", "requests", "undeclared")

    def __init__(self) -> None:
        self._capabilities: dict[str, CapabilityCounters] = {}
        self.queue = Histogram()
        self.undeclared = CapabilityCounters(UNDECLARED)
        self.requests: dict[tuple[str, int], int] = {}
        self.calls: dict[CallWay, CallCounters] = {}

    def declare(self, names: Iterable[str]) -> None:
        """Take the names of a manifest; call it for every HELLO.

        Counts of known names stay. What was counted for names that are not in it any more goes to
        `undeclared`, so that totals never fall and a worker cannot grow this by new names.
        """
        kept = {name: self._capabilities.pop(name, None) for name in dict.fromkeys(names)}
        for gone in self._capabilities.values():
            self.undeclared.add(gone)
        self._capabilities = {
            name: CapabilityCounters(name) if counters is None else counters
            for name, counters in kept.items()
        }

    def capability(self, name: str) -> CapabilityCounters:
        """Return the counters of one capability; those of `undeclared` if it has none."""
        return self._capabilities.get(name, self.undeclared)

    def capabilities(self) -> list[CapabilityCounters]:
        """Return the counters of the capabilities in the manifest, in its order."""
        return list(self._capabilities.values())

    def total(self) -> TaskTotals:
        """Return the sums over all capabilities, those that are gone included."""
        every = [*self._capabilities.values(), self.undeclared]
        return TaskTotals(
            submitted=sum(one.submitted for one in every),
            completed=sum(one.completed for one in every),
            failed=sum(one.failed for one in every),
            canceled=sum(one.canceled for one in every),
            rejected=sum(one.rejected for one in every),
        )

    def submitted(self, capability: str) -> None:
        """Count a task that was taken."""
        self._capabilities.get(capability, self.undeclared).submitted += 1

    def started(self, queued_s: float) -> None:
        """Count a task that got a place after ``queued_s``."""
        self.queue.observe(queued_s)

    def completed(self, capability: str, took_s: float) -> None:
        """Count a task that ended well."""
        counters = self._capabilities.get(capability, self.undeclared)
        counters.completed += 1
        duration = counters.duration
        # Histogram.observe, without the call: this is on the path of every task.
        duration.buckets[bisect_left(DURATION_BOUNDS_S, took_s)] += 1
        duration.sum_s += took_s

    def failed(self, capability: str, took_s: float | None) -> None:
        """Count a task that ended with an error; ``took_s`` is None if it never ran."""
        counters = self.capability(capability)
        counters.failed += 1
        if took_s is not None:
            counters.duration.observe(took_s)

    def canceled(self, capability: str, took_s: float | None) -> None:
        """Count a task that was cancelled; ``took_s`` is None if it never ran."""
        counters = self.capability(capability)
        counters.canceled += 1
        if took_s is not None:
            counters.duration.observe(took_s)

    def rejected(self, capability: str) -> None:
        """Count a task that was not taken."""
        self.capability(capability).rejected += 1

    def called(self, way: CallWay, outcome: CallOutcome, took_s: float | None) -> None:
        """Count a call of the author's code; ``took_s`` is None if it was not sent."""
        counters = self.calls.get(way)
        if counters is None:
            counters = self.calls[way] = CallCounters()
        counters.outcomes[outcome] += 1
        if took_s is not None:
            counters.duration.observe(took_s)

    def answered(self, route: str, status: int) -> None:
        """Count an answer of the control plane.

        Args:
            route: the router's template, such as ``/v1/tasks/{id}``; never the path itself.
            status: the HTTP status.
        """
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1

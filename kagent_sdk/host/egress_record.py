"""What the egress proxy did: counted for ``/metrics``, kept for ``/status``, written to the log; pure.

All of it is bounded, for a worker can ask for a million destinations: what is allowed is counted by the
entries of the configuration, what is refused by its reason; the log gets so many records a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.passage import Passage, Way
from kagent_sdk.sandbox.egress.rules import show

MAX_DENIALS = 50
"""Different destinations that are remembered as refused."""

MAX_ENTRIES = 2000
"""Entries with counts of their own, those of earlier configurations too."""

BURST = 60
REFILL_PER_S = 1.0
"""Records of one kind that are written at once, and in the long run."""

Log = Callable[..., None]
"""As `LogPump.log`: level, event, values."""

OTHERS = "(others)"
"""Stands for entries beyond `MAX_ENTRIES`."""


class RateBound:
    """Lets so many through at once, and so many a second in the long run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at_s = clock()
        self._held_back = 0

    def take(self) -> int | None:
        """Return how many were held back since the last that went through; None: hold this back."""
        now_s = self._clock()
        self._left = min(BURST, self._left + (now_s - self._at_s) * REFILL_PER_S)
        self._at_s = now_s
        if self._left < 1:
            self._held_back += 1
            return None
        self._left -= 1
        held_back, self._held_back = self._held_back, 0
        return held_back


@dataclass(slots=True)
class EntryCount:
    """What went through by one entry of the allow-list.

    Attributes:
        passages: by the way that they took.
        failed: those that did not end well, by reason.
        sent_bytes, received_bytes: of passages that have ended.
    """

    passages: dict[Way, int]
    failed: dict[str, int]
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(slots=True)
class Denial:
    """A destination that was refused.

    Attributes:
        destination: host and port as config.yaml has them; empty where it was none.
        reason: a stable name.
        message: what to do about it.
        count: how often.
        at: when last, in seconds since the epoch.
    """

    destination: str
    reason: str
    message: str
    count: int
    at: float


class EgressRecord:
    """Is told what the proxy decides (`kagent_sdk.sandbox.egress.passage.Observer`).

    Args:
        log: writes a record; never blocks.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.

    Attributes:
        refusals: how often by reason, before there was a passage and after.
    """

    def __init__(
        self, log: Log, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._wall_clock = wall_clock
        self._bounds = {
            event: RateBound(clock)
            for event in ("egress_closed", "egress_refused", "egress_failed", "egress_broke")
        }
        self._denials: dict[tuple[str, str], Denial] = {}
        self._entries: dict[str, EntryCount] = {}
        self.refusals: dict[str, int] = {}
        self._open: dict[int, Passage] = {}

    @property
    def denials(self) -> tuple[Denial, ...]:
        """What was refused, the latest first; at most `MAX_DENIALS`."""
        return tuple(reversed(self._denials.values()))

    def counts(self) -> dict[str, EntryCount]:
        """Return the counts by entry, those of passages that are still open included."""
        counts = {
            name: EntryCount(
                one.passages.copy(), one.failed.copy(), one.sent_bytes, one.received_bytes
            )
            for name, one in self._entries.copy().items()
        }
        for passage in self._open.copy().values():
            count = counts.get(_name(passage)) or counts[OTHERS]
            count.sent_bytes += passage.sent_bytes
            count.received_bytes += passage.received_bytes
        return counts

    # The proxy's observer

    def opened(self, passage: Passage) -> None:
        """Note that a destination is allowed."""
        count = self._count(passage)
        count.passages[passage.way] = count.passages.get(passage.way, 0) + 1
        self._open[id(passage)] = passage

    def closed(self, passage: Passage, error: EgressError | None, took_s: float) -> None:
        """Note that a passage has ended."""
        self._open.pop(id(passage), None)
        count = self._count(passage)
        count.sent_bytes += passage.sent_bytes
        count.received_bytes += passage.received_bytes
        if error is not None:
            self._note_failure(passage, error, count)
            return
        self._write(
            "info",
            "egress_closed",
            destination=show(passage.host, passage.port),
            address=passage.address,
            way=passage.way.value,
            outcome=passage.outcome,
            sent_bytes=passage.sent_bytes,
            received_bytes=passage.received_bytes,
            took_s=round(took_s, 3),
        )

    def refused(self, error: EgressError, host: str, port: int) -> None:
        """Note what was refused before there was a passage."""
        self._note_refusal(error, show(host, port) if host else "")

    def broke(self, error: Exception) -> None:
        """Note a fault of the proxy's own."""
        self._write("error", "egress_broke", error=repr(error))

    def _note_refusal(self, error: EgressError, destination: str) -> None:
        self.refusals[error.reason] = self.refusals.get(error.reason, 0) + 1
        if error.reason != "busy":
            self._remember(error, destination)
        self._write(
            "warning",
            "egress_refused",
            destination=destination or None,
            reason=error.reason,
            detail=str(error),
        )

    def _note_failure(self, passage: Passage, error: EgressError, count: EntryCount) -> None:
        destination = show(passage.host, passage.port)
        if error.status in {502, 504}:
            count.failed[error.reason] = count.failed.get(error.reason, 0) + 1
            self._write(
                "warning",
                "egress_failed",
                destination=destination,
                address=passage.address,
                way=passage.way.value,
                reason=error.reason,
                detail=str(error),
            )
        else:
            self._note_refusal(error, destination)

    def _count(self, passage: Passage) -> EntryCount:
        name = _name(passage)
        if name not in self._entries and len(self._entries) >= MAX_ENTRIES:
            name = OTHERS
        return self._entries.setdefault(name, EntryCount({}, {}))

    def _remember(self, error: EgressError, destination: str) -> None:
        key = destination, error.reason
        known = self._denials.pop(key, None)
        count = 1 if known is None else known.count + 1
        self._denials[key] = Denial(
            destination, error.reason, str(error), count, self._wall_clock()
        )
        if len(self._denials) > MAX_DENIALS:
            del self._denials[next(iter(self._denials))]

    def _write(self, level: str, event: str, **values: Any) -> None:
        held_back = self._bounds[event].take()
        if held_back is None:
            return
        known = {key: value for key, value in values.items() if value is not None}
        more = {"held_back": held_back} if held_back else {}
        self._log(level, event, **known, **more)


def _name(passage: Passage) -> str:
    return show(passage.entry.host, passage.entry.port)

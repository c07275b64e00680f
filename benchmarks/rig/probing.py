"""A probe at a steady rate, as an orchestrator sends it: a new connection each time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rig.statistics import percentile
from rig.wire import build_request, is_answered

# The default of Kubernetes' `timeoutSeconds`.
TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Probes:
    """What a series of probes saw.

    Attributes:
        latencies_ms: of every probe, from the moment it was due; a failure counts as the timeout.
        failures: probes that were refused, not answered with 200, or too late.
    """

    latencies_ms: tuple[float, ...]
    failures: int

    @property
    def p50_ms(self) -> float:
        """The median."""
        return percentile(self.latencies_ms, 0.5)

    @property
    def p99_ms(self) -> float:
        """99 of 100 probes were at least as fast."""
        return percentile(self.latencies_ms, 0.99)

    @property
    def max_ms(self) -> float:
        """The slowest."""
        return max(self.latencies_ms)


def probe(port: int, path: str, *, seconds: float, per_second: float) -> Probes:
    """Send probes on a fixed schedule and time each from the moment it was due.

    A probe that waits behind a slow one is late itself: timing it from when it was sent would hide
    a stall (the "coordinated omission" of load generators).
    """
    request = build_request("GET", path, close=True)
    started = time.perf_counter()
    latencies: list[float] = []
    failures = 0
    for number in range(int(seconds * per_second)):
        due = started + number / per_second
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
        left_s = due + TIMEOUT_S - time.perf_counter()
        is_ok = left_s > 0 and is_answered(port, request, timeout_s=left_s)
        took_s = time.perf_counter() - due
        if is_ok and took_s <= TIMEOUT_S:
            latencies.append(took_s * 1000)
        else:
            failures += 1
            latencies.append(TIMEOUT_S * 1000)
    return Probes(tuple(latencies), failures)

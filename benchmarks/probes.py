"""Latency of the liveness probe while the author's code blocks."""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, show_progress
from rig.contenders import AGENTCORE, AIOHTTP, FASTAPI, OURS, Contender
from rig.cores import Cores, pinned
from rig.probing import Probes, probe
from rig.processes import Server
from rig.report import Report
from rig.tables import Table
from rig.wire import HOST, build_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECONDS = 30.0
# Enough to see that a peer fails: with 30 s each, nothing would be learnt but patience.
PEER_SECONDS = 5.0
PER_SECOND = 50
# How long a block takes to be under way before the first probe is due.
HEAD_START_S = 0.3
# More than the threads of any contender: anyio has 40, ours tasks.max_concurrency.
THREAD_TASKS = 64

INTRO = f"""
{PER_SECOND} liveness probes per second, each on a new connection and due on a fixed schedule, while
a task blocks: `time.sleep` in an async function (*loop*), {THREAD_TASKS} plain functions that sleep
in threads (*threads*), a C call that waits without giving up the GIL (*gil*), and one that computes
without giving it up (*burn*). A probe fails when it is refused, not 200, or not answered within 1 s,
the default of Kubernetes. The server and its processes have one core. kagent_sdk is blocked for
longer than its peers, for which a few seconds show it all.
"""

MODES = ("none", "loop", "threads", "gil", "burn")
P99 = "/healthz p99 while the worker's code blocks ({mode})"
FAILURES = "/healthz failures while the worker's code blocks (all modes)"


@dataclass(frozen=True, slots=True)
class Order:
    """A contender and the way in which its code is to block."""

    contender: Contender
    mode: str
    seconds: float

    def requests(self) -> list[bytes]:
        """Return the requests that make it block; nobody waits for their answers."""
        # Longer than the probes run, so that the block outlasts the last one.
        seconds = HEAD_START_S + self.seconds + 2
        count = THREAD_TASKS if self.mode == "threads" else 1
        path, document = self._call(seconds)
        return [build_request("POST", path, json.dumps(document).encode())] * count

    def _call(self, seconds: float) -> tuple[str, dict[str, object]]:
        order: dict[str, object] = {"mode": self.mode, "seconds": seconds}
        if self.contender is AGENTCORE:
            return "/invocations", order
        if self.contender is not OURS:
            return "/block", order
        if self.mode == "threads":
            return "/v1/capabilities/block_thread", {"seconds": seconds}
        return "/v1/capabilities/block", order


@contextmanager
def blocked(order: Order, server: Server) -> Iterator[None]:
    """Have the server's code block, and hang up at the end."""
    connections: list[socket.socket] = []
    try:
        for request in order.requests() if order.mode != "none" else ():
            connections.append(socket.create_connection((HOST, server.port), timeout=5))
            connections[-1].sendall(request)
        time.sleep(HEAD_START_S)
        yield
    finally:
        for connection in connections:
            connection.close()


def measure(order: Order, cores: Cores) -> Probes:
    """Start a server, block it, probe it, kill it."""
    mode = order.mode if order.mode != "none" else "loop"
    argument = mode if order.contender is AGENTCORE else ""
    with order.contender.serve("blocking", core=cores.server, mode=argument) as server:
        server.wait_until_ok(order.contender.ready_path)
        time.sleep(HEAD_START_S)
        with blocked(order, server), pinned(cores.load):
            found = probe(
                server.port,
                order.contender.alive_path,
                seconds=order.seconds,
                per_second=PER_SECOND,
            )
        server.kill()
    return found


def run(options: Options) -> Report:
    """Measure every contender in every mode."""
    asked = [AIOHTTP, FASTAPI, AGENTCORE, OURS]
    contenders = [item for item in options.chosen() if item in asked]
    ours_s = options.seconds or SECONDS
    cores = cores_for_load()
    found: dict[tuple[str, str], Probes] = {}
    for mode in MODES:
        for item in contenders:
            seconds = ours_s if item is OURS else min(PEER_SECONDS, ours_s)
            show_progress(f"probes: {item.title}, {mode}, {seconds:.0f} s")
            found[item.name, mode] = measure(Order(item, mode, seconds), cores)
    end_progress()
    titles = {item.name: item.title for item in contenders}
    columns = ("", "blocked", "probes", "failed", "p50, ms", "p99, ms", "max, ms")
    rows = tuple(
        (
            titles[name],
            mode,
            str(len(probes.latencies_ms)),
            str(probes.failures),
            f"{probes.p50_ms:.1f}",
            f"{probes.p99_ms:.1f}",
            f"{probes.max_ms:.1f}",
        )
        for (name, mode), probes in found.items()
    )
    versions = {item.title: item.environment.versions() for item in contenders}
    table = Table("A probe that fails counts as 1000 ms", columns, rows)
    return Report("probes", "Probes", INTRO, (table,), verdicts(found), versions, data(found))


def verdicts(found: Mapping[tuple[str, str], Probes]) -> tuple[Verdict, ...]:
    """Hold our probes against the budgets."""
    ours = {mode: probes for (name, mode), probes in found.items() if name == OURS.name}
    judged = [
        Verdict(
            Budget(P99.format(mode=mode), "at most", 20, "ms"),
            ours[mode].p99_ms if mode in ours else None,
        )
        for mode in MODES[1:]
    ]
    failures = sum(probes.failures for probes in ours.values()) if ours else None
    return (*judged, Verdict(Budget(FAILURES, "at most", 0, ""), failures))


def data(found: Mapping[tuple[str, str], Probes]) -> dict[str, object]:
    """Return the raw numbers, in milliseconds."""
    return {
        f"{name}/{mode}": {
            "probes": len(probes.latencies_ms),
            "failures": probes.failures,
            "p50": probes.p50_ms,
            "p99": probes.p99_ms,
            "max": probes.max_ms,
        }
        for (name, mode), probes in found.items()
    }


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

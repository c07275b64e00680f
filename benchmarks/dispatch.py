"""Throughput and latency of one typed task: kagent_sdk beside bare aiohttp, FastAPI, agentcore."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import (
    Options,
    cores_for_load,
    end_progress,
    main,
    rotated,
    show_progress,
)
from rig.contenders import CONSTANT, LANES, Check, Lane, SameBody
from rig.cores import Cores, pinned
from rig.load import Load, Slice
from rig.processes import Server
from rig.report import Report
from rig.statistics import median, paired_ratios, percentile, spread
from rig.tables import Table
from rig.wire import exchange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Many short turns rather than few long ones: some of them meet a quiet machine.
ROUNDS = 40
SECONDS = 0.4
WARM_UP_S = 0.1
FIRST_WARM_UP_S = 1.5
# A turn in which other work took the server's core says little: it is taken again, but not for ever.
LEAST_BUSY = 0.95
MORE_ATTEMPTS = 3
CONNECTIONS = 16

INTRO = """
One server core, one load core. The same typed task over 16 keep-alive connections for the rate, and
over one connection for the latency. *CPU per task* is what all processes of the server used. *Busy*
is the share of its core that each side used: a server near 100 % was the limit, one far below it was
disturbed by other work on the machine, and its rate says little.
"""
LIMIT = """
The load generator takes {limit:,.0f} answers/s from a socket that sends the same bytes to everyone:
it is not what limits a contender that stays well below.
"""

BUDGETS = (
    ("fast-path", "aiohttp", 0.85),
    ("fast-path", "agentcore", 5.0),
    ("fast-path", "fastapi", 1.5),
    ("tasks", "aiohttp", 0.35),
    ("tasks", "agentcore", 2.0),
)
ADDED_LATENCY = Budget("fast path, one connection, median above bare aiohttp", "at most", 150, "µs")


@dataclass(slots=True)
class Measurements:
    """What the rounds gave for one lane; index = round."""

    rates: list[float] = field(default_factory=list)
    server_busy: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    medians_us: list[float] = field(default_factory=list)
    p99s_us: list[float] = field(default_factory=list)

    def row(self, lane: Lane) -> tuple[str, ...]:
        """Return the lane's row of the table."""
        rates = spread(self.rates)
        return (
            lane.title,
            f"{rates.median:,.0f}",
            f"{rates.low:,.0f}-{rates.high:,.0f}",
            f"{median(self.cpu_us):.0f}",
            f"{median(self.server_busy):.0%}",
            f"{median(self.load_busy):.0%}",
            f"{median(self.medians_us):.0f}",
            f"{median(self.p99s_us):.0f}",
        )


@dataclass(frozen=True, slots=True)
class Runner:
    """A lane whose server is up and whose answers were found right."""

    lane: Lane
    server: Server
    check: Check
    found: Measurements = field(default_factory=Measurements)

    def take_turn(self, seconds: float) -> None:
        """Measure with many connections, then with one; the caller is pinned to the load core."""
        request, found = self.lane.request(), self.found
        with Load(self.server.port, request, self.check, connections=CONNECTIONS) as load:
            load.drive(WARM_UP_S)
            many, cpu_s = self._drive(load, seconds)
            for _ in range(MORE_ATTEMPTS):
                if cpu_s >= LEAST_BUSY * many.took_s:
                    break
                many, cpu_s = self._drive(load, seconds)
        with Load(self.server.port, request, self.check, connections=1) as load:
            load.drive(WARM_UP_S / 2)
            one = load.drive(seconds / 2)
        found.rates.append(many.rate)
        found.server_busy.append(cpu_s / many.took_s)
        found.load_busy.append(many.busy)
        found.cpu_us.append(cpu_s / many.answers * 1e6)
        found.medians_us.append(median(one.latencies_us))
        found.p99s_us.append(percentile(one.latencies_us, 0.99))

    def _drive(self, load: Load, seconds: float) -> tuple[Slice, float]:
        before_s = self.server.cpu_s()
        found = load.drive(seconds)
        return found, self.server.cpu_s() - before_s


def prepare(lane: Lane, server: Server) -> Runner:
    """Examine the first answer in full and warm the lane up."""
    server.wait_until_ok(lane.contender.ready_path)
    request = lane.request()
    check = lane.judge(exchange(server.port, request, timeout_s=10).body)
    with Load(server.port, request, check, connections=CONNECTIONS) as load:
        load.drive(FIRST_WARM_UP_S)
    return Runner(lane, server, check)


def find_limit(cores: Cores) -> float:
    """Return how many answers per second the load generator takes from the least of servers."""
    CONSTANT.environment.ensure()
    with CONSTANT.serve("digest", core=cores.server) as server:
        server.wait_until_ok(CONSTANT.alive_path)
        request = LANES[0].request()
        check = SameBody(exchange(server.port, request, timeout_s=10).body)
        with pinned(cores.load), Load(server.port, request, check, connections=CONNECTIONS) as load:
            return max(load.drive(SECONDS).rate for _ in range(5))


def run(options: Options) -> Report:
    """Measure all lanes in turns."""
    rounds, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    contenders, cores = options.chosen(), cores_for_load()
    limit = find_limit(cores)
    with ExitStack() as stack:
        servers = {
            contender.name: stack.enter_context(contender.serve("digest", core=cores.server))
            for contender in contenders
        }
        stack.enter_context(pinned(cores.load))
        runners = []
        for lane in LANES:
            if lane.contender in contenders:
                show_progress(f"dispatch: warming up {lane.title}")
                runners.append(prepare(lane, servers[lane.contender.name]))
        for number in range(rounds):
            for runner in rotated(runners, number):
                show_progress(f"dispatch: round {number + 1} of {rounds}, {runner.lane.title}")
                runner.take_turn(seconds)
    end_progress()
    lanes = [runner.lane for runner in runners]
    found = {runner.lane.key: runner.found for runner in runners}
    versions = {item.title: item.environment.versions() for item in contenders}
    return report(lanes, found, limit, versions)


def report(
    lanes: Sequence[Lane],
    found: Mapping[str, Measurements],
    limit: float,
    versions: Mapping[str, Mapping[str, str]],
) -> Report:
    """Put the measurements into words."""
    columns = (
        "",
        "tasks/s",
        "min-max",
        "CPU per task, µs",
        "server busy",
        "load busy",
        "median, µs",
        "p99, µs",
    )
    rates = Table(
        f"{CONNECTIONS} connections (rate), one connection (latency)",
        columns,
        tuple(found[lane.key].row(lane) for lane in lanes),
    )
    data = {"limit": limit, **{lane.key: asdict(found[lane.key]) for lane in lanes}}
    return Report(
        "dispatch",
        "Dispatch",
        f"{INTRO.strip()}\n{LIMIT.format(limit=limit)}",
        (rates, *ratio_tables(lanes, found)),
        tuple(verdicts(found)),
        versions,
        data,
    )


def ratio_tables(lanes: Sequence[Lane], found: Mapping[str, Measurements]) -> list[Table]:
    """Compare our two lanes with each peer, round by round."""
    ours = [lane for lane in lanes if lane.key in ("fast-path", "tasks")]
    peers = [lane for lane in lanes if lane not in ours]
    if not ours or not peers:
        return []
    rows = []
    for peer in peers:
        cells = [peer.title]
        for lane in ours:
            ratio = paired_ratios(found[lane.key].rates, found[peer.key].rates)
            cells += [f"{ratio.median:.2f} x", f"{ratio.low:.2f}-{ratio.high:.2f}"]
        rows.append(tuple(cells))
    columns = ("rate compared with", "fast path", "min-max", "/v1/tasks", "min-max")
    return [Table("Ratios of the rates within a round", columns, tuple(rows))]


def verdicts(found: Mapping[str, Measurements]) -> list[Verdict]:
    """Hold the measurements against the budgets."""
    titles = {lane.key: lane.title for lane in LANES}
    judged = []
    for ours, peer, least in BUDGETS:
        what = "fast path" if ours == "fast-path" else "/v1/tasks"
        budget = Budget(f"{what}, rate compared with {titles[peer]}", "at least", least, "x")
        both = ours in found and peer in found
        ratio = paired_ratios(found[ours].rates, found[peer].rates).median if both else None
        judged.append(Verdict(budget, ratio))
    added = None
    if "fast-path" in found and "aiohttp" in found:
        pairs = zip(found["fast-path"].medians_us, found["aiohttp"].medians_us, strict=True)
        added = median([mine - base for mine, base in pairs])
    return [*judged, Verdict(ADDED_LATENCY, added)]


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

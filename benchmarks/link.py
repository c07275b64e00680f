"""Tasks through an orchestrator and through NATS, many agents, and many tasks that have ended."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rig.command import end_progress, show_progress
from rig.contenders import INPUT, OURS, TaskCheck
from rig.load import Load
from rig.mesh import (
    OPERATOR_TOKEN,
    STATUS,
    nats_server,
    orchestrator,
    post_all,
    registration,
    replicas,
    wait_for,
)
from rig.processes import ServerError, tree_memory
from rig.report import Report, write_sections
from rig.statistics import percentile
from rig.tables import Table
from rig.wire import BadAnswerError, build_request, exchange

if TYPE_CHECKING:
    from rig.processes import Server

CONNECTIONS = 16
HEARTBEAT_S = 5.0
SETTLE_S = 1.0
MIN_TASKS = 1000
BATCH_S = 0.5

INTRO = f"""
The typed digest of *Dispatch*, end to end: a caller on loopback, `POST /v1/tasks` at the
orchestrator with its database on disk, an agent that it is pushed to (host, journal and worker), and
the result back; all of them share the cores of the machine with the load, {CONNECTIONS} connections.
Through NATS the caller speaks JetStream, with as many tasks under way.

Registrations come one after the other over one connection; the agents are simulated, each with three
capabilities. The load of their heartbeats is the orchestrator's CPU time for one, times one every
{HEARTBEAT_S:.0f} s. Memory is the orchestrator's PSS.
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        replicas: numbers of replicas to measure.
        seconds: of each load.
        agents: that are simulated.
        tasks: that have ended, when memory is measured again.
    """

    replicas: tuple[int, ...] = (1, 2, 4)
    seconds: float = 5.0
    agents: int = 500
    tasks: int = 30_000


QUICK = Sizes(replicas=(1,), seconds=1.0, agents=20, tasks=2 * MIN_TASKS)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one load measured.

    Attributes:
        rate: tasks per second.
        p50_ms, p99_ms: from the caller's request to its answer.
    """

    rate: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """What simulated agents cost.

    Attributes:
        rate: registrations per second.
        heartbeat_us: CPU time of the orchestrator for one heartbeat.
        memory_mb: what the orchestrator has grown by, for all of them.
    """

    rate: float
    heartbeat_us: float
    memory_mb: float


def summarise(latencies_s: list[float], took_s: float) -> Throughput:
    """Return what a load measured."""
    p50, p99 = (percentile(latencies_s, share) * 1000 for share in (0.5, 0.99))
    return Throughput(len(latencies_s) / took_s, p50, p99)


def task_request() -> bytes:
    """Return a request that waits for the end of a task."""
    body = json.dumps({"capability": "digest", "input": INPUT}).encode()
    return build_request("POST", "/v1/tasks", body)


def drive(port: int, seconds: float) -> Throughput:
    """Load an orchestrator and check every answer."""
    request = task_request()
    check = TaskCheck(exchange(port, request, timeout_s=30).body)
    with Load(port, request, check, connections=CONNECTIONS) as load:
        load.drive(min(seconds, 1.0))  # warm
        found = load.drive(seconds)
    return summarise([value / 1e6 for value in found.latencies_us], found.took_s)


def measure_orchestrator(count: int, seconds: float) -> Throughput:
    """Measure tasks through the orchestrator with so many replicas."""
    with orchestrator() as server, replicas(f"http://127.0.0.1:{server.port}", count):
        return drive(server.port, seconds)


def measure_nats(count: int, seconds: float) -> Throughput:
    """Measure tasks through NATS with so many replicas."""
    with nats_server() as server:
        url = f"nats://127.0.0.1:{server.port}"
        with replicas(url, count):
            command = [str(OURS.environment.python), "-m", "rig.nats_load", url]
            command += [str(CONNECTIONS), str(seconds), json.dumps(INPUT)]
            done = subprocess.run(
                command, check=True, capture_output=True, cwd=sys.path[0], text=True
            )
    latencies_s, took_s = json.loads(done.stdout)
    return summarise(latencies_s, took_s)


def measure_crowd(agents: int) -> Crowd:
    """Register simulated agents and let each say several times that it lives."""
    crowd = [registration(number) for number in range(agents)]
    with orchestrator() as server:
        before_mb = tree_memory(server.pids()).pss
        took_s = post_all(server.port, [("/v1/link/agents", one) for one in crowd])
        after_mb = tree_memory(server.pids()).pss
        beats: list[tuple[str, object]] = [
            (f"/v1/link/agents/{one['instance']}/heartbeat", {"status": STATUS}) for one in crowd
        ]
        cpu_s = server.cpu_s()
        post_all(server.port, beats * 4)
        heartbeat_us = (server.cpu_s() - cpu_s) / (4 * agents) * 1e6
    return Crowd(agents / took_s, heartbeat_us, after_mb - before_mb)


def measure_memory(tasks: int) -> dict[int, float]:
    """Return the orchestrator's memory in MB, by how many tasks have ended."""
    with orchestrator() as server, replicas(f"http://127.0.0.1:{server.port}", 2):
        return {count: memory_after(server, count) for count in (MIN_TASKS, tasks)}


def memory_after(server: Server, tasks: int) -> float:
    """Return the orchestrator's memory in MB when so many tasks have ended since its start."""
    request = task_request()
    check = TaskCheck(exchange(server.port, request, timeout_s=30).body)
    with Load(server.port, request, check, connections=CONNECTIONS) as load:

        def are_enough() -> bool:
            show_progress(f"link: {finished(server.port):,} of {tasks:,} tasks")
            load.drive(BATCH_S)
            return finished(server.port) >= tasks

        wait_for(are_enough, server, within_s=1800)
    time.sleep(SETTLE_S)
    return tree_memory(server.pids()).pss


def finished(port: int) -> int:
    """Return how many tasks have ended."""
    request = build_request("GET", "/status", close=True, token=OPERATOR_TOKEN)
    tasks = json.loads(exchange(port, request, timeout_s=30).body)["tasks"]
    return int(tasks["completed"])


def run(sizes: Sizes, *, has_nats: bool = True) -> Report:
    """Measure all of it, one after the other."""
    OURS.environment.ensure()
    found: dict[str, dict[int, Throughput]] = {"the orchestrator": {}, "NATS": {}}
    for count in sizes.replicas:
        show_progress(f"link: {count} replicas, through the orchestrator")
        found["the orchestrator"][count] = measure_orchestrator(count, sizes.seconds)
        if has_nats:
            show_progress(f"link: {count} replicas, through NATS")
            found["NATS"][count] = measure_nats(count, sizes.seconds)
    show_progress(f"link: {sizes.agents} simulated agents")
    crowd = measure_crowd(sizes.agents)
    memory = measure_memory(sizes.tasks)
    end_progress()
    tables = (throughput_table(found), crowd_table(crowd, sizes.agents), memory_table(memory))
    versions = {OURS.title: OURS.environment.versions()}
    return Report("link", "Link", INTRO, tables, (), versions, data(found, crowd, memory))


def throughput_table(found: dict[str, dict[int, Throughput]]) -> Table:
    """Return the loads as a table."""
    rows = tuple(
        (
            f"{way}, {count} replica{'s' if count > 1 else ''}",
            f"{one.rate:,.0f}",
            f"{one.p50_ms:.1f}",
            f"{one.p99_ms:.1f}",
        )
        for way, by_count in found.items()
        for count, one in by_count.items()
    )
    return Table("Tasks end to end", ("through", "tasks/s", "p50, ms", "p99, ms"), rows)


def crowd_table(crowd: Crowd, agents: int) -> Table:
    """Return the cost of simulated agents as a table."""
    percent = crowd.heartbeat_us / 1e6 / HEARTBEAT_S * 100
    rows = (
        ("registrations per second", f"{crowd.rate:,.0f}"),
        ("CPU of one heartbeat, µs", f"{crowd.heartbeat_us:,.0f}"),
        ("CPU of one agent, % of a core", f"{percent:.4f}"),
        (f"CPU of {agents} agents, % of a core", f"{percent * agents:.1f}"),
        (f"memory of {agents} agents, MB", f"{crowd.memory_mb:.1f}"),
    )
    return Table(f"{agents} simulated agents", ("", "measured"), rows)


def memory_table(memory: dict[int, float]) -> Table:
    """Return the orchestrator's memory as a table."""
    rows = tuple((f"{count:,} finished tasks", f"{mb:.1f}") for count, mb in memory.items())
    return Table("Memory of the orchestrator", ("", "PSS, MB"), rows)


def data(
    found: dict[str, dict[int, Throughput]], crowd: Crowd, memory: dict[int, float]
) -> dict[str, Any]:
    """Return the raw numbers."""
    return {
        "tasks": {
            way: {
                str(count): {"per_s": one.rate, "p50_ms": one.p50_ms, "p99_ms": one.p99_ms}
                for count, one in by_count.items()
            }
            for way, by_count in found.items()
        },
        "agents": {
            "registrations_per_s": crowd.rate,
            "heartbeat_us": crowd.heartbeat_us,
            "memory_mb": crowd.memory_mb,
        },
        "memory_mb": {str(count): mb for count, mb in memory.items()},
    }


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything, to see it work")
    parser.add_argument("--seconds", type=float, help="length of one load")
    parser.add_argument("--agents", type=int, help="how many are simulated")
    parser.add_argument("--tasks", type=int, help="how many end before memory is measured")
    parser.add_argument("--no-nats", action="store_true", help="leave NATS out")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.md alone")
    return parser.parse_args(words)


def sizes_of(asked: argparse.Namespace) -> Sizes:
    """Return how much is to be measured."""
    sizes = QUICK if asked.quick else Sizes()
    names = ("seconds", "agents", "tasks")
    return replace(
        sizes, **{name: found for name in names if (found := getattr(asked, name)) is not None}
    )


def main() -> int:
    """Run the script; 70 when something that it measures is broken."""
    asked = parse()
    try:
        report = run(sizes_of(asked), has_nats=not asked.no_nats)
    except (ServerError, BadAnswerError, OSError, subprocess.CalledProcessError) as exc:
        print(f"\nbenchmark failed: {exc}", file=sys.stderr)
        return 70
    if asked.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(f"\n{report.plain()}\n")
    if not (asked.no_docs or asked.quick or asked.no_nats):
        write_sections([report])
    return 0


if __name__ == "__main__":
    sys.exit(main())

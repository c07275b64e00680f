"""Memory of a server's processes: idle, and after 10,000 tasks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, show_progress
from rig.contenders import LANES, Contender, Lane
from rig.cores import Cores, pinned
from rig.load import Load
from rig.processes import Memory, tree_memory
from rig.report import Report
from rig.statistics import median, spread
from rig.tables import Table
from rig.wire import exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUNDS = 3
TASKS = 10_000
SETTLE_S = 1.0

INTRO = f"""
Proportional set size (PSS) of all processes of a server, from `smaps_rollup`: a page that several
processes map counts in equal parts. *Private* leaves such pages out. Idle is {SETTLE_S:.0f} s after
the server is ready; then {TASKS:,} typed tasks one after the other, and again {SETTLE_S:.0f} s.
"""


def measure(lane: Lane, cores: Cores) -> tuple[Memory, Memory, int]:
    """Start a server; return its memory when idle and after the tasks, and its process count."""
    with lane.contender.serve("digest", core=cores.server) as server:
        server.wait_until_ok(lane.contender.ready_path)
        time.sleep(SETTLE_S)
        idle = tree_memory(server.pids())
        request = lane.request()
        check = lane.judge(exchange(server.port, request, timeout_s=10).body)
        with pinned(cores.load), Load(server.port, request, check, connections=1) as load:
            load.run_count(TASKS)
        time.sleep(SETTLE_S)
        return idle, tree_memory(server.pids()), len(server.pids())


def run(options: Options) -> Report:
    """Measure every lane on servers of their own, one at a time."""
    contenders: list[Contender] = options.chosen()
    rounds, cores = options.rounds or ROUNDS, cores_for_load()
    lanes = [lane for lane in LANES if lane.contender in contenders]
    found: dict[str, list[tuple[Memory, Memory, int]]] = {lane.key: [] for lane in lanes}
    for number in range(rounds):
        for lane in lanes:
            show_progress(f"memory: round {number + 1} of {rounds}, {lane.title}")
            found[lane.key].append(measure(lane, cores))
    end_progress()
    columns = ("", "processes", "idle PSS, MB", "idle private", f"after {TASKS:,} tasks", "growth")
    rows = tuple(row(lane, found[lane.key]) for lane in lanes)
    versions = {item.title: item.environment.versions() for item in contenders}
    table = Table(f"Medians of {rounds} rounds", columns, rows)
    return Report("memory", "Memory", INTRO, (table,), verdicts(found), versions, data(found))


def row(lane: Lane, rounds: list[tuple[Memory, Memory, int]]) -> tuple[str, ...]:
    """Return one row of the table."""
    return (
        lane.title,
        str(rounds[0][2]),
        f"{spread([idle.pss for idle, _, _ in rounds]).median:.1f}",
        f"{median([idle.private for idle, _, _ in rounds]):.1f}",
        f"{median([after.pss for _, after, _ in rounds]):.1f}",
        f"{median([after.private - idle.private for idle, after, _ in rounds]):+.1f}",
    )


def verdicts(found: Mapping[str, list[tuple[Memory, Memory, int]]]) -> tuple[Verdict, ...]:
    """Hold the idle memory against its budget."""
    rounds = found.get("fast-path")
    measured = median([idle.pss for idle, _, _ in rounds]) if rounds else None
    return (Verdict(Budget("idle memory, host and worker (PSS)", "at most", 75, "MB"), measured),)


def data(found: Mapping[str, list[tuple[Memory, Memory, int]]]) -> dict[str, object]:
    """Return the raw numbers, in MB."""
    return {
        key: {
            "idle_pss": [idle.pss for idle, _, _ in rounds],
            "idle_private": [idle.private for idle, _, _ in rounds],
            "after_pss": [after.pss for _, after, _ in rounds],
            "after_private": [after.private for _, after, _ in rounds],
        }
        for key, rounds in found.items()
    }


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

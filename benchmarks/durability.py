"""What it costs to lose nothing: journaled tasks and state beside none, and beside peers."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import CONNECTIONS, Measurements, Runner, prepare
from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, rotated, show_progress
from rig.contenders import AGENTCORE, AIOHTTP, LANES, OURS, Lane
from rig.cores import Cores, pinned
from rig.durable import (
    Found,
    fill_journal,
    serve_state,
    size_after_retention,
    time_bare_commits,
    time_start,
)
from rig.journals import VALUE_BYTES
from rig.report import Report
from rig.statistics import median, paired_ratios, spread
from rig.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 12
SECONDS = 0.4
STATE_CHANGES = 2000
LARGE_KEYS = 100_000
FINISHED_TASKS = 100_000
FORGOTTEN_TASKS = 20_000
KEPT_TASKS = 200
RETENTION_WITHIN_S = 120.0
MODES = ("process", "power", "none")

INTRO = f"""
The same typed task as under *Dispatch*, through `POST /v1/tasks`, with each value of
`tasks.durability`: *process* (the default) survives the death of every process, *power* a power cut
too, *none* nothing. The peers keep nothing either. The server has one core, the load another.

A change of the state is `await agent.state.set(…)` in a capability: it returns when the change is as
safe as the durability says. *SQLite alone* is a loop that makes the same changes in a file of its
own, in its own process. The large state has {LARGE_KEYS:,} keys of {VALUE_BYTES:,} bytes.

Starts are from the spawn to `/readyz`, on all cores, with {FINISHED_TASKS:,} finished tasks in the
journal and with none.
"""

TASK_BUDGETS = (("aiohttp", 0.35), ("agentcore", 2.0))
LARGE_STATE = Budget("a change with a 100 MB state compared with an empty one", "at most", 1.5, "x")
FULL_START = Budget(
    f"start with {FINISHED_TASKS:,} finished tasks compared with none", "at most", 2.0, "x"
)
SHRUNK = Budget("size of the journal after retention compared with before", "at most", 0.25, "x")

FULL, EMPTY = f"{FINISHED_TASKS:,} finished tasks", "an empty journal"


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured.

    Attributes:
        lanes: of the tasks, those that were measured.
        tasks: by key of the lane.
        states: by mode, ``large`` for the large state, ``sqlite-MODE`` for SQLite alone.
        starts_ms: by journal.
        sizes: bytes of a journal before and after retention, for every round.
    """

    lanes: Sequence[Lane]
    tasks: Mapping[str, Measurements]
    states: Mapping[str, Found]
    starts_ms: Mapping[str, list[float]]
    sizes: Sequence[tuple[int, int]]


def lanes(options: Options) -> list[tuple[Lane, str]]:
    """Return who does the task, and with which durability."""
    chosen = options.chosen()
    listed = [(lane, "") for lane in LANES if lane.contender in (AIOHTTP, AGENTCORE)]
    ours = next(lane for lane in LANES if lane.key == "tasks")
    listed += [
        (replace(ours, key=mode, title=f"kagent_sdk, durability: {mode}"), mode) for mode in MODES
    ]
    return [(lane, mode) for lane, mode in listed if lane.contender in chosen]


def settings_of(mode: str) -> dict[str, str]:
    """Return the environment of an agent with a durability."""
    return {"AGENT_TASKS__DURABILITY": mode} if mode else {}


def measure_tasks(
    listed: Sequence[tuple[Lane, str]], cores: Cores, rounds: int, seconds: float
) -> dict[str, Measurements]:
    """Measure all lanes in turns, as `dispatch` does."""
    with ExitStack() as stack:
        servers = {
            lane.key: stack.enter_context(
                lane.contender.serve("digest", core=cores.server, settings=settings_of(mode))
            )
            for lane, mode in listed
        }
        stack.enter_context(pinned(cores.load))
        runners: list[Runner] = []
        for lane, _ in listed:
            show_progress(f"durability: warming up {lane.title}")
            runners.append(prepare(lane, servers[lane.key]))
        for number in range(rounds):
            for runner in rotated(runners, number):
                show_progress(f"durability: round {number + 1} of {rounds}, {runner.lane.title}")
                runner.take_turn(seconds)
    return {runner.lane.key: runner.found for runner in runners}


def measure_states(cores: Cores, large: Path, rounds: int) -> dict[str, Found]:
    """Measure changes and looks in turns: every durability, the large state, SQLite alone."""
    found: dict[str, Found] = {}
    with ExitStack() as stack:
        runners = {
            mode: stack.enter_context(serve_state(cores, settings_of(mode))) for mode in MODES
        }
        show_progress("durability: writing the large state")
        runners["large"] = stack.enter_context(serve_state(cores, settings_of("process"), large))
        found.update({key: runner.found for key, runner in runners.items()})
        bare = {mode: found.setdefault(f"sqlite-{mode}", Found()) for mode in ("process", "power")}
        for number in range(rounds):
            for key, runner in rotated(list(runners.items()), number):
                show_progress(f"durability: round {number + 1} of {rounds}, state, {key}")
                runner.take_turn(STATE_CHANGES)
            for mode, item in bare.items():
                item.take_sets(time_bare_commits(cores, mode, STATE_CHANGES))
    return found


def measure_starts(cores: Cores, journal: Path, rounds: int) -> dict[str, list[float]]:
    """Time starts with the full journal and with none, in turns; the first of each is a rehearsal."""
    found: dict[str, list[float]] = {FULL: [], EMPTY: []}
    journals = [(FULL, journal), (EMPTY, None)]
    for number in range(-1, rounds):
        for key, path in rotated(journals, number):
            show_progress(f"durability: start {number + 1} of {rounds}, {key}")
            took_ms = time_start(cores, path)
            if number >= 0:
                found[key].append(took_ms)
    return found


def run(options: Options) -> Report:
    """Measure tasks, the state, starts and sizes, one after the other."""
    rounds, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    listed, cores = lanes(options), cores_for_load()
    found = Results([lane for lane, _ in listed], {}, {}, {}, ())
    found = replace(found, tasks=measure_tasks(listed, cores, rounds, seconds))
    if OURS in options.chosen():
        with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
            folder = Path(scratch)
            show_progress("durability: filling journals")
            large = fill_journal(folder, tasks=0, keys=LARGE_KEYS)
            full = fill_journal(folder, tasks=FINISHED_TASKS, keys=0)
            forgotten = fill_journal(folder, tasks=FORGOTTEN_TASKS, keys=0)
            found = replace(
                found,
                states=measure_states(cores, large, rounds),
                starts_ms=measure_starts(cores, full, rounds),
            )
            show_progress("durability: forgetting tasks")
            size = size_after_retention(cores, forgotten, KEPT_TASKS, RETENTION_WITHIN_S)
            found = replace(found, sizes=(size,))
    end_progress()
    versions = {item.title: item.environment.versions() for item in options.chosen()}
    return Report(
        "durability",
        "Durability",
        INTRO,
        tuple(tables(found)),
        tuple(verdicts(found)),
        versions,
        data(found),
    )


def tables(found: Results) -> list[Table]:
    """Put the measurements into tables."""
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
    title = f"{CONNECTIONS} connections (rate), one connection (latency)"
    rows = tuple(found.tasks[lane.key].row(lane) for lane in found.lanes)
    made = [Table(title, columns, rows), ratio_table(found)]
    if found.states:
        made += [state_table(found.states), large_table(found.states)]
        made += [start_table(found.starts_ms), size_table(found.sizes)]
    return made


def ratio_table(found: Results) -> Table:
    """Compare each durability with the others, with the peers, and with bare aiohttp's latency."""
    ours = [lane for lane in found.lanes if lane.key in MODES]
    others = [lane for lane in found.lanes if lane.key != "process"]
    rows = []
    for lane in ours:
        cells = [lane.title]
        for other in others:
            mine, base = found.tasks[lane.key], found.tasks[other.key]
            cells.append(f"{paired_ratios(mine.rates, base.rates).median:.2f} x")
        rows.append((*cells, added_latency(found.tasks, lane.key)))
    columns = ("rate compared with", *(lane.title for lane in others), "added latency, µs")
    return Table("Ratios of the rates within a round", columns, tuple(rows))


def added_latency(found: Mapping[str, Measurements], key: str) -> str:
    """Return by how much the median of one connection is above bare aiohttp's, in microseconds."""
    if "aiohttp" not in found:
        return "-"
    pairs = zip(found[key].medians_us, found["aiohttp"].medians_us, strict=True)
    return f"{median([mine - base for mine, base in pairs]):.0f}"


def state_table(found: Mapping[str, Found]) -> Table:
    """Return the latencies of the state."""
    titles = {mode: f"durability: {mode}" for mode in MODES} | {
        "large": "process, with a 100 MB state",
        "sqlite-process": "SQLite alone, synchronous=NORMAL",
        "sqlite-power": "SQLite alone, synchronous=FULL",
    }
    rows = tuple(
        (
            title,
            *(
                f"{median(values):.0f}" if values else "-"
                for values in (
                    found[key].sets_us,
                    found[key].slow_sets_us,
                    found[key].gets_us,
                    found[key].slow_gets_us,
                )
            ),
        )
        for key, title in titles.items()
    )
    columns = ("", "set, median, µs", "p99, µs", "get, median, µs", "p99, µs")
    return Table(f"{STATE_CHANGES:,} changes and looks a round, one after the other", columns, rows)


def large_table(found: Mapping[str, Found]) -> Table:
    """Return what a large state costs."""
    large, small = found["large"], found["process"]
    rows = (
        ("a change compared with an empty state", f"{large_ratio(found):.2f} x"),
        ("memory_store.json, written in the background", f"{median(large.export_s):.2f} s"),
        ("host's memory (PSS), empty state", f"{median(small.memory_mb):.1f} MB"),
        ("host's memory (PSS), 100 MB state", f"{median(large.memory_mb):.1f} MB"),
    )
    return Table("A state of 100 MB", ("", ""), rows)


def start_table(found: Mapping[str, list[float]]) -> Table:
    """Return the times of the starts."""
    rows = tuple(
        (key, f"{spread(times).median:.0f}", f"{spread(times).low:.0f}-{spread(times).high:.0f}")
        for key, times in found.items()
    )
    return Table("Start to ready", ("", "median, ms", "min-max"), rows)


def size_table(sizes: Sequence[tuple[int, int]]) -> Table:
    """Return how far the journal shrinks."""
    rows = tuple(
        (
            f"{FORGOTTEN_TASKS:,} finished tasks, of which {KEPT_TASKS} stay",
            f"{before / 1e6:.1f}",
            f"{after / 1e6:.1f}",
        )
        for before, after in sizes
    )
    return Table("Size of the journal", ("", "before, MB", "after retention, MB"), rows)


def large_ratio(found: Mapping[str, Found]) -> float:
    """Return what a change costs with the large state, compared with the empty one."""
    return paired_ratios(found["large"].sets_us, found["process"].sets_us).median


def verdicts(found: Results) -> list[Verdict]:
    """Hold the measurements against the budgets."""
    titles = {lane.key: lane.title for lane in LANES}
    judged = []
    for peer, least in TASK_BUDGETS:
        budget = Budget(
            f"/v1/tasks, journaled, rate compared with {titles[peer]}", "at least", least, "x"
        )
        both = "process" in found.tasks and peer in found.tasks
        rates = (found.tasks["process"].rates, found.tasks[peer].rates) if both else None
        judged.append(Verdict(budget, paired_ratios(*rates).median if rates else None))
    has_state = bool(found.states)
    starts = (found.starts_ms[FULL], found.starts_ms[EMPTY]) if has_state else None
    shrunk = [after / before for before, after in found.sizes]
    return [
        *judged,
        Verdict(LARGE_STATE, large_ratio(found.states) if has_state else None),
        Verdict(FULL_START, paired_ratios(*starts).median if starts else None),
        Verdict(SHRUNK, median(shrunk) if shrunk else None),
    ]


def data(found: Results) -> dict[str, object]:
    """Return the raw numbers."""
    return {
        "tasks": {lane.key: asdict(found.tasks[lane.key]) for lane in found.lanes},
        "states": {key: asdict(item) for key, item in found.states.items()},
        "starts_ms": dict(found.starts_ms),
        "sizes_bytes": [list(size) for size in found.sizes],
    }


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

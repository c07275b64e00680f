"""What a test that calls an agent in its own process costs: kagent_sdk.testing.AgentHarness."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, show_progress
from rig.contenders import OURS
from rig.cores import pinned
from rig.report import Report
from rig.statistics import paired_ratios, spread
from rig.tables import Table

ROUNDS = 11
CELL = Path(__file__).parent / "rig" / "harness_cell.py"
TITLES = {
    "bare": "validate, await the function, dump: no library",
    "calls": "`harness.call`, a typed capability",
    "state": "`harness.call`, one update of the state in each",
}

INTRO = """
A thousand calls one after the other, in one process and event loop, after a thousand to warm up. The
harness runs the engine of a host and the runtime of a worker; what it is compared with is a test that
calls the author's function itself, and sees neither deadlines nor attempts nor the task's transaction.
"""


def run(options: Options) -> Report:
    """Measure in processes of their own, in turns."""
    OURS.environment.ensure()
    rounds, cores = options.rounds or ROUNDS, cores_for_load()
    found: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        show_progress(f"harness: round {number + 1} of {rounds}")
        with pinned(cores.server):
            done = subprocess.run(
                [str(OURS.environment.python), str(CELL)], stdout=subprocess.PIPE, check=True
            )
        for name, seconds in json.loads(done.stdout).items() if number >= 0 else ():
            found.setdefault(name, []).append(seconds * 1000)
    end_progress()
    calls = spread(found["calls"])
    budget = Budget("1,000 calls in a harness", "at most", 2000, "ms")
    return Report(
        "harness",
        "Test harness",
        INTRO,
        (call_table(found), life_table(found)),
        (Verdict(budget, calls.median),),
        {OURS.title: OURS.environment.versions()},
        {f"{name}_ms": times for name, times in found.items()},
    )


def call_table(found: dict[str, list[float]]) -> Table:
    """Return the table of the calls."""
    rows = []
    for name, title in TITLES.items():
        seen = spread(found[name])
        ratio = paired_ratios(found[name], found["bare"]).median
        rows.append(
            (title, f"{seen.median:.0f}", f"{seen.low:.0f}-{seen.high:.0f}", f"{ratio:.1f} x")
        )
    columns = ("", "median", "min-max", "compared with bare")
    return Table("1,000 calls, ms", columns, tuple(rows))


def life_table(found: dict[str, list[float]]) -> Table:
    """Return the table of opening and closing."""
    rows = []
    for name, title in (("start", "open a harness"), ("stop", "close it")):
        seen = spread(found[name])
        rows.append((title, f"{seen.median:.1f}", f"{seen.low:.1f}-{seen.high:.1f}"))
    return Table("Once for each test, ms", ("", "median", "min-max"), tuple(rows))


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

"""What the sandbox costs: applying it, starting with it, and calls of the kernel under it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, rotated, show_progress
from rig.contenders import OURS
from rig.cores import pinned
from rig.report import Report
from rig.statistics import median, paired_ratios, spread
from rig.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUNDS = 11
CELL = Path(__file__).parent / "rig" / "cell.py"
STARTS = {
    "off": {"AGENT_SANDBOX__MODE": "off"},
    "process": {},
    "bwrap": {"AGENT_WORKER__ISOLATION": "bwrap"},
}
TITLES = {
    "off": "sandbox.mode: off",
    "process": "the default: worker.isolation: process",
    "bwrap": "worker.isolation: bwrap",
}

INTRO = """
*Applying* is what a worker's process does between its first line and the author's: rules for files and
ports, the filter of system calls, limits, capabilities. It is timed inside the process, imports
included. *Starts* are those of a hello agent until it is ready. *Calls* are timed in a process with the
default policy, and in one without; `getppid` does nothing, so what it costs more is the filter alone.
"""


def make_plan(folder: Path) -> bytes:
    """Return the plan of an agent's workers; its folder is made."""
    for name in ("runtime/cache", "runtime/data", "logs"):
        (folder / name).mkdir(parents=True)
    return run_cell("plan", folder, b"")


def run_cell(what: str, folder: Path, given: bytes) -> bytes:
    """Run the other script and return what it printed."""
    python = [str(OURS.environment.python), *(["-S"] if what == "time" else [])]
    done = subprocess.run(
        [*python, str(CELL), what, str(folder)], input=given, stdout=subprocess.PIPE, check=True
    )
    return done.stdout


def run(options: Options) -> Report:
    """Measure in turns, with the sandbox and without."""
    OURS.environment.ensure()
    rounds, cores = options.rounds or ROUNDS, cores_for_load()
    starts: dict[str, list[float]] = {key: [] for key in STARTS}
    calls: dict[str, dict[str, list[float]]] = {"plain": {}, "confined": {}}
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
        folder = Path(scratch).resolve()
        plan = make_plan(folder)
        for number in range(-1, rounds):
            show_progress(f"sandbox: round {number + 1} of {rounds}")
            for key, given in rotated([("plain", b""), ("confined", plan)], number):
                with pinned(cores.server):
                    found = json.loads(run_cell("time", folder, given))
                for name, value in found.items() if number >= 0 else ():
                    calls[key].setdefault(name, []).append(value)
            for key in rotated(list(STARTS), number):
                took_ms = time_start(key, cores.load)
                if number >= 0:
                    starts[key].append(took_ms)
    end_progress()
    applied = spread(calls["confined"].pop("apply_ms"))
    calls["plain"].pop("apply_ms")
    tables = (
        Table(
            "Applying, ms",
            ("", "median", "min-max"),
            (
                (
                    "the default policy",
                    f"{applied.median:.1f}",
                    f"{applied.low:.1f}-{applied.high:.1f}",
                ),
            ),
        ),
        start_table(starts),
        call_table(calls),
    )
    budget = Budget("the sandbox, applied before the first import", "at most", 5, "ms")
    return Report(
        "sandbox",
        "Sandbox",
        INTRO,
        tables,
        (Verdict(budget, applied.median),),
        {OURS.title: OURS.environment.versions()},
        {"apply_ms": applied.median, "start_ms": starts, "calls_us": calls},
    )


def time_start(key: str, load_core: int) -> float:
    """Start an agent, wait until it is ready, stop it; return milliseconds."""
    with OURS.serve("digest", core=None, settings=STARTS[key]) as server:
        with pinned(load_core):
            took_s = server.wait_until_ok("/readyz")
        server.kill()
    return took_s * 1000


def start_table(found: Mapping[str, list[float]]) -> Table:
    """Return the table of starts."""
    rows = []
    for key, times in found.items():
        seen = spread(times)
        ratio = paired_ratios(times, found["off"]).median
        rows.append(
            (TITLES[key], f"{seen.median:.0f}", f"{seen.low:.0f}-{seen.high:.0f}", f"{ratio:.2f} x")
        )
    return Table("Start to ready, ms", ("", "median", "min-max", "compared with off"), tuple(rows))


def call_table(found: Mapping[str, Mapping[str, list[float]]]) -> Table:
    """Return the table of the kernel's calls."""
    rows = tuple(
        (
            name,
            f"{median(plain):.2f}",
            f"{median(found['confined'][name]):.2f}",
            f"{paired_ratios(found['confined'][name], plain).median:.2f} x",
        )
        for name, plain in found["plain"].items()
    )
    return Table("Calls, µs", ("", "without", "confined", "ratio"), rows)


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

"""Throughput of the log pump, beside writing the same lines straight to a file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, rotated, show_progress
from rig.contenders import OURS
from rig.cores import Cores, pinned
from rig.environments import BENCHMARKS
from rig.report import Report
from rig.statistics import paired_ratios, spread
from rig.tables import Table

ROUNDS = 7
LINES = 500_000
LINE_BYTES = 200
MEGABYTE = 1_000_000

INTRO = f"""
{LINES:,} lines of {LINE_BYTES} bytes from a process that writes them to its stdout as fast as they
are taken and is then killed with SIGKILL. *Straight to a file* is the same lines written to a file by
one process, without a pipe. *Copied* is a loop that reads the pipe and writes the bytes to a file: what
any reader must do at least. The pump makes a JSON record of every line, half as long again, and
rotates the file. The reader has one core, and all of its threads share it; the writer has the other.
Secrets are searched for with google-re2, this project's extra `fast`, or without it in Python. MB are
those of the lines, not of the records. *Lost* counts lines that are not in the files at the
end.
"""

MODES = {
    "straight": "straight to a file",
    "copy": "copied from a pipe",
    "pump": "the log pump, no secrets",
    "redact": "the log pump, 20 secrets",
    "redact-python": "the same without google-re2",
}
MEASURED = "redact"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement.

    Attributes:
        rate: megabytes of lines per second.
        cpu_rate: the same for each second that the reader computed.
        lost: lines that were written and are not there.
    """

    rate: float
    cpu_rate: float
    lost: int


def measure(mode: str, cores: Cores) -> Run:
    """Let one process print and another one write it down."""
    python = str(OURS.environment.python)
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch:
        path = Path(scratch) / "logs" / "runtime.log"
        path.parent.mkdir()
        with pinned(cores.load):
            writer = subprocess.Popen(
                [python, "-m", "rig.chatter", str(LINES if mode != "straight" else 0)],
                cwd=BENCHMARKS,
                stdout=subprocess.PIPE,
            )
        with writer, pinned(cores.server):
            done = subprocess.run(
                [python, "-m", "rig.pump", mode, str(path), str(LINES)],
                cwd=BENCHMARKS,
                stdin=writer.stdout,
                stdout=subprocess.PIPE,
                check=True,
            )
        times = json.loads(done.stdout)
        megabytes = LINES * LINE_BYTES / MEGABYTE
        lost = LINES - count_lines(path.parent)
    return Run(megabytes / times["wall_s"], megabytes / times["cpu_s"], lost)


def count_lines(folder: Path) -> int:
    """Count the numbered lines in all files of a folder."""
    numbered = re.compile(rb"INFO handled request \d{8} of customer")
    return sum(len(numbered.findall(path.read_bytes())) for path in folder.iterdir())


def run(options: Options) -> Report:
    """Measure every way in turn, round by round."""
    OURS.environment.ensure()
    rounds, cores = options.rounds or ROUNDS, cores_for_load()
    found: dict[str, list[Run]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        for mode in rotated(list(MODES), number):
            show_progress(f"logs: round {number + 1} of {rounds}, {MODES[mode]}")
            found[mode].append(measure(mode, cores))
    end_progress()
    columns = ("", "MB/s", "min-max", "lines/s", "MB per CPU s", "compared with straight", "lost")
    rows = tuple(row(mode, found) for mode in MODES)
    table = Table(f"Medians of {rounds} rounds", columns, rows)
    versions = {OURS.title: OURS.environment.versions()}
    return Report("logs", "Log pump", INTRO, (table,), verdicts(found), versions, data(found))


def row(mode: str, found: dict[str, list[Run]]) -> tuple[str, ...]:
    """Return one row of the table."""
    rates = spread([item.rate for item in found[mode]])
    base = [item.rate for item in found["straight"]]
    ratio = paired_ratios([item.rate for item in found[mode]], base)
    return (
        MODES[mode],
        f"{rates.median:.0f}",
        f"{rates.low:.0f}-{rates.high:.0f}",
        f"{rates.median * MEGABYTE / LINE_BYTES:,.0f}",
        f"{spread([item.cpu_rate for item in found[mode]]).median:.0f}",
        f"{ratio.median:.2f} x",
        str(sum(item.lost for item in found[mode])),
    )


def verdicts(found: dict[str, list[Run]]) -> tuple[Verdict, ...]:
    """Hold the pump against its budgets."""
    rate = spread([item.rate for item in found[MEASURED]]).median
    lost = sum(item.lost for mode in ("pump", MEASURED, "redact-python") for item in found[mode])
    return (
        Verdict(Budget("log pump, 200-byte lines, 20 secrets", "at least", 100, "MB/s"), rate),
        Verdict(Budget("lines lost when their writer is killed", "at most", 0, ""), lost),
    )


def data(found: dict[str, list[Run]]) -> dict[str, object]:
    """Return the raw numbers, in megabytes per second."""
    return {
        mode: {
            "rate": [item.rate for item in runs],
            "cpu_rate": [item.cpu_rate for item in runs],
            "lost": [item.lost for item in runs],
        }
        for mode, runs in found.items()
    }


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

"""Time from the start of a hello agent to its first answered probe, and to ready."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, rotated, show_progress
from rig.contenders import OURS, Contender
from rig.cores import Cores, pinned
from rig.report import Report
from rig.statistics import median, paired_ratios, spread
from rig.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 11

INTRO = """
From the spawn of the process to the first 200, found by connecting every millisecond from another
core; the server and its processes have one core. Contenders take turns, and each is started once
beforehand, so that its bytecode is compiled and its files are in the page cache. The *slow import*
agent sleeps 5 s at the top of its entrypoint.
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One thing to time: an app of a contender until a path answers 200."""

    key: str
    title: str
    contender: Contender
    app: str
    path: str

    def time_ms(self, cores: Cores) -> float:
        """Start it, wait for the answer, stop it; return milliseconds."""
        with self.contender.serve(self.app, core=cores.server) as server:
            with pinned(cores.load):
                took_s = server.wait_until_ok(self.path)
            server.kill()
        return took_s * 1000


def starts(contenders: Sequence[Contender]) -> list[Start]:
    """List what to time."""
    listed = [
        Start(item.name, f"{item.title}, {item.alive_path}", item, "digest", item.alive_path)
        for item in contenders
    ]
    if OURS in contenders:
        slow = "kagent_sdk with a 5 s import, /healthz"
        listed += [
            Start("ready", "kagent_sdk, /readyz", OURS, "digest", "/readyz"),
            Start("slow-import", slow, OURS, "slow_import", "/healthz"),
        ]
    return listed


def run(options: Options) -> Report:
    """Time all of them in turns."""
    contenders, rounds = options.chosen(), options.rounds or ROUNDS
    cores = cores_for_load()
    listed = starts(contenders)
    found: dict[str, list[float]] = {item.key: [] for item in listed}
    for number in range(-1, rounds):
        for item in rotated(listed, number):
            show_progress(f"startup: round {number + 1} of {rounds}, {item.title}")
            took_ms = item.time_ms(cores)
            if number >= 0:
                found[item.key].append(took_ms)
    end_progress()
    versions = {item.title: item.environment.versions() for item in contenders}
    table = Table(
        f"{rounds} starts each",
        ("", "median, ms", "min-max", "compared with bedrock-agentcore"),
        tuple(row(item, found) for item in listed),
    )
    return Report(
        "startup", "Start-up", INTRO, (table,), tuple(verdicts(found)), versions, dict(found)
    )


def row(item: Start, found: Mapping[str, list[float]]) -> tuple[str, ...]:
    """Return one row of the table."""
    times = spread(found[item.key])
    base = found.get("agentcore")
    ratio = f"{paired_ratios(found[item.key], base).median:.2f} x" if base else "-"
    return item.title, f"{times.median:.0f}", f"{times.low:.0f}-{times.high:.0f}", ratio


def verdicts(found: Mapping[str, list[float]]) -> list[Verdict]:
    """Hold the measurements against the budgets."""
    return [
        Verdict(Budget(f"{what} compared with {versus}", "at most", limit, "x"), measured)
        for what, versus, limit, measured in (
            ("start to /healthz", "agentcore's /ping", 0.8, _ratio(found, "kagent", "agentcore")),
            ("start to ready", "agentcore's /ping", 1.2, _ratio(found, "ready", "agentcore")),
            # "Just as fast", with room for the noise of two series of process starts.
            ("/healthz with a 5 s import", "without", 1.1, _ratio(found, "slow-import", "kagent")),
        )
    ]


def _ratio(found: Mapping[str, list[float]], value: str, base: str) -> float | None:
    if value not in found or base not in found:
        return None
    return median([a / b for a, b in zip(found[value], found[base], strict=True)])


if __name__ == "__main__":
    sys.exit(main([run], __doc__))

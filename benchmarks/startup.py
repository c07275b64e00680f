"""Time from the start of a hello agent to its first answered probe, and to ready."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rig.budgets import Budget, Verdict
from rig.command import Options, cores_for_load, end_progress, main, rotated, show_progress
from rig.contenders import OURS, Contender
from rig.cores import pinned
from rig.report import Report
from rig.statistics import median, paired_ratios, spread
from rig.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 11
ONE_CORE = "@one-core"

INTRO = """
From the spawn of the process to the first 200, found by connecting every millisecond. Contenders
take turns, and each is started once beforehand, so that its bytecode is compiled and its files are
in the page cache. kagent_sdk starts two processes, side by side where there is a core for each: the
first table leaves all cores to the server, the second gives it one. The *slow import* agent sleeps
5 s at the top of its entrypoint.
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One thing to time: an app of a contender until a path answers 200.

    Attributes:
        key: short, for results.
        title: for tables.
        core: the core that the server must stay on; None leaves it all of them.
    """

    key: str
    title: str
    contender: Contender
    app: str
    path: str
    core: int | None = None

    def time_ms(self, load_core: int) -> float:
        """Start it, wait for the answer, stop it; return milliseconds."""
        with self.contender.serve(self.app, core=self.core) as server:
            with pinned(load_core):
                took_s = server.wait_until_ok(self.path)
            server.kill()
        return took_s * 1000


def starts(contenders: Sequence[Contender], core: int) -> list[Start]:
    """List what to time, first on all cores, then on one."""
    listed = [
        Start(item.name, f"{item.title}, {item.alive_path}", item, "digest", item.alive_path)
        for item in contenders
    ]
    if OURS in contenders:
        listed.append(Start("ready", "kagent_sdk, /readyz", OURS, "digest", "/readyz"))
    on_one_core = [replace(item, key=f"{item.key}{ONE_CORE}", core=core) for item in listed]
    if OURS in contenders:
        slow = "kagent_sdk with a 5 s import, /healthz"
        listed.append(Start("slow-import", slow, OURS, "slow_import", "/healthz"))
    return [*listed, *on_one_core]


def run(options: Options) -> Report:
    """Time all of them in turns."""
    contenders, rounds = options.chosen(), options.rounds or ROUNDS
    cores = cores_for_load()
    listed = starts(contenders, cores.server)
    found: dict[str, list[float]] = {item.key: [] for item in listed}
    for number in range(-1, rounds):
        for item in rotated(listed, number):
            show_progress(f"startup: round {number + 1} of {rounds}, {item.title}")
            took_ms = item.time_ms(cores.load)
            if number >= 0:
                found[item.key].append(took_ms)
    end_progress()
    versions = {item.title: item.environment.versions() for item in contenders}
    tables = (
        table(f"{rounds} starts each, all cores", listed, found, ""),
        table(f"{rounds} starts each, one core", listed, found, ONE_CORE),
    )
    return Report("startup", "Start-up", INTRO, tables, tuple(verdicts(found)), versions, found)


def table(
    title: str, listed: Sequence[Start], found: Mapping[str, list[float]], suffix: str
) -> Table:
    """Return the table of those that were timed on as many cores."""
    base = found.get(f"agentcore{suffix}")
    rows = []
    for item in listed:
        if (item.core is not None) is bool(suffix):
            times = spread(found[item.key])
            ratio = f"{paired_ratios(found[item.key], base).median:.2f} x" if base else "-"
            rows.append(
                (item.title, f"{times.median:.0f}", f"{times.low:.0f}-{times.high:.0f}", ratio)
            )
    columns = ("", "median, ms", "min-max", "compared with bedrock-agentcore")
    return Table(title, columns, tuple(rows))


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

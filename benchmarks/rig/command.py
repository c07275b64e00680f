"""The command line that all benchmark scripts share."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rig.contenders import CONTENDERS, Contender
from rig.cores import Cores, choose_cores, take_precedence
from rig.processes import ServerError
from rig.report import Report, write_sections
from rig.wire import BadAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for; None leaves the choice to the script.

    Attributes:
        rounds: how often each contender has its turn.
        seconds: length of one measurement.
        only: names of the contenders to measure; empty for all.
    """

    rounds: int | None = None
    seconds: float | None = None
    only: tuple[str, ...] = ()

    def chosen(self) -> list[Contender]:
        """Return the contenders to measure, installed."""
        found = [item for item in CONTENDERS if not self.only or item.name in self.only]
        for item in found:
            item.environment.ensure()
        return found


def parse(description: str, *, has_seconds: bool) -> argparse.Namespace:
    """Read the options that every script takes; ``--seconds`` means another thing to each."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    if has_seconds:
        parser.add_argument("--seconds", type=float, help="length of one measurement")
    names = ", ".join(item.name for item in CONTENDERS)
    parser.add_argument("--only", action="append", default=[], help=f"one of: {names}")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--report-only", action="store_true", help="a missed budget is no failure")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.md alone")
    found = parser.parse_args(namespace=argparse.Namespace(seconds=None))
    unknown = set(found.only) - {item.name for item in CONTENDERS}
    if unknown:
        parser.error(f"no contender is called {', '.join(sorted(unknown))}; there are {names}")
    return found


def main(scripts: Sequence[Callable[[Options], Report]], description: str) -> int:
    """Run the scripts one after the other, show and write what they found.

    Returns:
        0: all budgets kept (or ``--report-only``); 1: one was missed; 70: a contender is broken.
    """
    asked = parse(description, has_seconds=len(scripts) == 1)
    options = Options(asked.rounds, asked.seconds, tuple(asked.only))
    reports: list[Report] = []
    take_precedence(os.getpid())
    for script in scripts:
        try:
            reports.append(script(options))
        except (ServerError, BadAnswerError, OSError, subprocess.CalledProcessError) as exc:
            print(f"\nbenchmark failed: {exc}", file=sys.stderr)
            return 70
        if not asked.json:
            print(f"\n{reports[-1].plain()}\n", flush=True)
    if asked.json:
        print(json.dumps([report.as_dict() for report in reports], indent=2))
    # A part of the contenders makes no document: its tables and budgets would have holes.
    if not asked.no_docs and not options.only:
        write_sections(reports)
    kept = all(report.is_kept for report in reports)
    return 0 if kept or asked.report_only else 1


def show_progress(text: str) -> None:
    """Tell a person what is going on: one line that is overwritten, or lines in a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def end_progress() -> None:
    """Clear the progress line of a terminal."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def cores_for_load() -> Cores:
    """Choose cores and warn when there is only one."""
    cores = choose_cores()
    if not cores.are_apart:
        print("warning: one core only, server and load disturb each other", file=sys.stderr)
    return cores


def rotated(items: Sequence[T], by: int) -> list[T]:
    """Return the items in order, starting with another one in every round."""
    start = by % len(items)
    return [*items[start:], *items[:start]]

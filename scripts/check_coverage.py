"""Hold the measured coverage against the gates of pyproject.toml, ``[tool.kagent-sdk.coverage]``.

``total`` is the least percentage of the whole package, lines and branches together, that all tests of
a long run cover; ``unit_total`` what the unit tests cover alone, which are all that other runs measure.
Every file that a pattern of ``pure`` names must be covered whole, by branch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coverage import Coverage

REPOSITORY = Path(__file__).resolve().parent.parent


def find_shortfalls(
    report: Mapping[str, Any], *, total: float, pure: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Judge a report of ``coverage json``.

    Returns:
        What falls short, one line each, and the pure files in order. A pattern that names no
        measured file falls short: it protects nothing.
    """
    shortfalls: list[str] = []
    complete: list[str] = []
    percent = report["totals"]["percent_covered"]
    if percent < total:
        shortfalls.append(f"the whole package: {percent:.2f} % covered, {total:g} % are needed")
    for pattern in pure:
        names = [name for name in report["files"] if Path(name).match(pattern)]
        if not names:
            shortfalls.append(f"{pattern}: no measured file has this name")
        for name in names:
            gaps = _describe_gaps(report["files"][name])
            if gaps:
                shortfalls.append(f"{name}: {gaps}")
            else:
                complete.append(name)
    return shortfalls, complete


def _describe_gaps(document: Mapping[str, Any]) -> str:
    lines = ", ".join(str(line) for line in document["missing_lines"])
    branches = ", ".join(
        f"{start}->{'exit' if stop <= 0 else stop}" for start, stop in document["missing_branches"]
    )
    parts = (f"lines {lines}" if lines else "", f"branches {branches}" if branches else "")
    return "; ".join(part for part in parts if part)


def main() -> int:
    """Print the report and what falls short of the gates; 0 when nothing does."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        gates = tomllib.load(file)["tool"]["kagent-sdk"]["coverage"]
    coverage = Coverage()
    coverage.load()
    coverage.report(file=sys.stdout)
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report_file:
        coverage.json_report(outfile=report_file.name)
        report = json.load(report_file)
    is_long = os.environ.get("KOS_TEST_LONG") == "1"
    total = gates["total" if is_long else "unit_total"]
    shortfalls, complete = find_shortfalls(report, total=total, pure=gates["pure"])
    percent = report["totals"]["percent_covered"]
    print(f"coverage: {percent:.2f} % in all, {len(complete)} pure files covered whole by branch")
    for line in shortfalls:
        print(f"coverage gate: {line}", file=sys.stderr)
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())

"""The coverage gates can fail: each way to fall short is named with the file and the gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.check_coverage import find_shortfalls


def make_report(
    percent: float = 95.0,
    lines: Sequence[int] = (),
    branches: Sequence[Sequence[int]] = (),
) -> dict[str, Any]:
    """Return what `coverage json` writes, as far as the gates read it."""
    clean: dict[str, Any] = {"missing_lines": [], "missing_branches": []}
    other = {"missing_lines": list(lines), "missing_branches": [list(pair) for pair in branches]}
    return {
        "totals": {"percent_covered": percent},
        "files": {"pkg/pure/clean.py": clean, "pkg/pure/other.py": other},
    }


def test_a_report_above_the_gates_passes() -> None:
    """And the pure files are named, so that an empty list cannot pass for a full one."""
    shortfalls, complete = find_shortfalls(make_report(90.0), total=90, pure=["pkg/pure/*.py"])

    assert shortfalls == []
    assert complete == ["pkg/pure/clean.py", "pkg/pure/other.py"]


def test_too_little_in_all_falls_short() -> None:
    """89.996 is not 90, however it is rounded for the eye."""
    shortfalls, _ = find_shortfalls(make_report(89.996), total=90, pure=[])

    assert shortfalls == ["the whole package: 90.00 % covered, 90 % are needed"]


def test_a_gap_in_a_pure_file_falls_short_with_lines_and_branches() -> None:
    """What decides must be tested in every direction that it can decide."""
    report = make_report(lines=[3, 4], branches=[[7, 9], [8, -1]])

    shortfalls, complete = find_shortfalls(report, total=90, pure=["pkg/pure/*.py"])

    assert shortfalls == ["pkg/pure/other.py: lines 3, 4; branches 7->9, 8->exit"]
    assert complete == ["pkg/pure/clean.py"]


def test_a_pattern_without_a_file_falls_short() -> None:
    """A file that was renamed must not leave its gate behind."""
    shortfalls, _ = find_shortfalls(make_report(), total=90, pure=["pkg/gone.py"])

    assert shortfalls == ["pkg/gone.py: no measured file has this name"]

"""What people see of a manifest that was compared."""

from __future__ import annotations

import io

from rich.console import Console

from kagent_sdk.cli.screens.loosenings import WIDE, loosening_screen
from kagent_sdk.deploy.lockdown.loosening import Loosening

ROOT = Loosening("user", "1000:1000", "user root", "services.a.user (line 4)", "user: '1000'")
STOP = Loosening("stop_timeout", "25 s", "1 s\x1b]0;x\x07", "services.a", "30s", "warning")


def shown(*loosenings: Loosening, width: int = 80, file: str = "compose.yaml") -> list[str]:
    """Return the lines that a terminal of that width shows."""
    out = io.StringIO()
    screen = loosening_screen("compose", file, loosenings, width=width)
    Console(file=out, width=width, highlight=False, markup=False, no_color=True).print(screen)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_manifest_that_holds_is_two_lines() -> None:
    """Nothing to do is nothing to read."""
    assert shown() == [
        "compose.yaml · compared with the policy, as compose",
        "● it loosens nothing",
    ]


def test_each_finding_says_where_what_and_what_to_write() -> None:
    """Whoever reads it changes the line and goes on."""
    assert shown(ROOT, STOP)[1:10] == [
        "● it loosens the policy: 1 critical, 1 warning",
        "",
        "  user  ✗ critical",
        "    where   services.a.user (line 4)",
        "    wanted  1000:1000",
        "    found   user root",
        "    fix     user: '1000'",
        "  stop_timeout  ✗ warning",
        "    where   services.a",
    ]


def test_a_wide_terminal_has_a_line_for_each() -> None:
    """Forty findings fit on a screen."""
    lines = shown(ROOT, STOP, STOP, width=WIDE, file="-")

    assert lines[0].startswith("stdin ")
    assert lines[1] == "● it loosens the policy: 1 critical, 2 warnings"
    assert lines[3].split() == ["CONTROL", "SEVERITY", "WANTED", "FOUND", "WHERE", "FIX"]
    assert lines[4].startswith("  user          critical  1000:1000  user root")


def test_what_a_manifest_says_does_nothing_to_the_terminal() -> None:
    """It was written by somebody else."""
    assert not any("\x1b" in line for width in (80, WIDE) for line in shown(STOP, width=width))

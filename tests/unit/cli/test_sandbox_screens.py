"""What people see of the sandbox: the line of the status, and the doctor's screen."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, RenderableType

from kagent_sdk.cli.screens.sandbox import WIDE, denial_part, doctor_screen, sandbox_line
from kagent_sdk.protocol.sandbox import ControlInfo, EgressDenial, SandboxInfo

NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
EVIL = "\x1b]0;owned\x07"


def shown(content: RenderableType, width: int = 80) -> str:
    """Return what a terminal of that width shows."""
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, markup=False, no_color=True).print(content)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def control(name: str, verdict: str = "in_force", **more: Any) -> ControlInfo:
    """Return a control as the host tells of it."""
    values = {
        "control": name,
        "verdict": verdict,
        "expected": "none",
        "actual": "none",
        "evidence": "/proc",
        "severity": "critical",
        **more,
    }
    return ControlInfo.model_validate(values)


def info(*controls: ControlInfo, **more: Any) -> SandboxInfo:
    """Return an audit with these controls."""
    holds = not any(one.is_open for one in controls)
    values = {"mode": "enforce", "isolation": "process", "checked_at": NOW, "holds": holds}
    return SandboxInfo(**{**values, **more}, controls=controls)


def doctor(audit: SandboxInfo, width: int = 80, source: str = "agent") -> str:
    """Return the doctor's screen."""
    now = NOW + timedelta(seconds=5)
    return shown(doctor_screen(audit, now, source=source, width=width), width)


FILES = control("files", actual="44 paths", evidence="Landlock ABI 7, open: EACCES")
NO_FILTER = control("syscalls", "missing", actual="no filter", way_out="take another kernel")
WEAK = control("limits", "weaker", severity="warning", way_out="make a cgroup")


def test_the_status_is_quiet_where_all_holds() -> None:
    """One line, and nothing to do."""
    line = shown(sandbox_line(info(FILES, control("namespaces", "not_asked_for"))))

    assert line == "enforce, process · all in force"


def test_the_status_names_what_is_open() -> None:
    """What is critical stands apart from what is only weak."""
    line = shown(sandbox_line(info(FILES, NO_FILTER, WEAK)))

    assert line == "enforce, process · open: syscalls · weak: limits · see kos-agent doctor"
    assert shown(sandbox_line(info(WEAK))) == "enforce, process · weak: limits"


def test_before_the_audit_nothing_is_claimed() -> None:
    """A second after the start nobody knows yet."""
    line = shown(sandbox_line(info(checked_at=None, holds=None, mode="off")))

    assert line == "off, process · not audited yet"


def test_an_audit_without_a_time_is_shown_all_the_same() -> None:
    """A newer host may leave out what this version asks for."""
    screen = doctor(info(FILES, checked_at=None), width=WIDE)

    assert "checked" not in screen
    assert "what to do" not in screen
    assert "files" in screen


def test_the_doctor_has_a_table_on_a_wide_screen() -> None:
    """Each control on a line, with all that is known of it."""
    screen = doctor(info(FILES, NO_FILTER, WEAK), width=WIDE)

    assert "● 1 critical control does not hold" in screen
    assert "mode enforce · isolation process · asked the running agent · checked 5 s ago" in screen
    (head,) = [line for line in screen.splitlines() if "CONTROL" in line]
    assert head.split() == ["CONTROL", "VERDICT", "SEVERITY", "EXPECTED", "ACTUAL", "EVIDENCE"]
    assert "Landlock ABI 7, open: EACCES" in screen
    assert "what to do" in screen
    assert "  syscalls  take another kernel" in screen


def test_the_doctor_has_blocks_on_a_narrow_screen() -> None:
    """Six columns do not fit on eighty; nothing is cut off."""
    screen = doctor(info(FILES, NO_FILTER, control("vault", evidence="")), width=60)

    assert "  files  ✓ in force\n    expected  none\n    actual    44 paths" in screen
    assert "  syscalls  ✗ missing  critical" in screen
    assert "…" not in screen
    assert max(map(len, screen.splitlines())) <= 60


def test_a_way_out_is_told_once() -> None:
    """A probe that failed is one thing to do, not sixteen."""
    names = ("files", "syscalls", "scopes", "limits")
    many = [control(name, "unknown", way_out="see why: no bwrap") for name in names]
    screen = doctor(info(*many), source="probe")

    assert screen.count("see why: no bwrap") == 1
    assert "4 controls" in screen
    assert "? unknown" in screen
    assert "no agent runs; asked a probe" in screen
    assert "● 4 critical controls do not hold" in screen
    assert "files, syscalls  see why" in doctor(info(*many[:2]))


def test_refusals_are_told_with_the_line_to_add() -> None:
    """The author meets a blocked host, and finds here what to write."""
    denials = (
        EgressDenial(
            destination="api.example.com:443",
            reason="not_allowed",
            message="add it to sandbox.network.allow",
            count=3,
            at=NOW - timedelta(seconds=9),
        ),
        EgressDenial(destination="", reason="x", message=f"no{EVIL} host", at=NOW),
    )
    screen = shown(denial_part(denials, NOW))

    assert "api.example.com:443  add it to sandbox.network.allow  3 times, 9 s ago" in screen
    assert "\x1b" not in screen


def test_nothing_of_the_audit_is_obeyed_by_the_terminal() -> None:
    """What came over the wire is hostile until it was cleaned."""
    evil = control(
        f"f{EVIL}", "missing", actual=EVIL, evidence=EVIL, expected=EVIL, way_out=f"{EVIL}do"
    )

    for width in (60, WIDE):
        assert "\x1b" not in doctor(info(evil), width=width)
    assert "\x1b" not in shown(sandbox_line(info(evil)))

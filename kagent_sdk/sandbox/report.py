"""What a launched process says of its own confinement, as the host reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kagent_sdk.errors import SandboxError
from kagent_sdk.sandbox.application import Row
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.start import SEPARATOR


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """The whole report of a launch.

    Attributes:
        findings: what was applied; empty when it failed, or ended before.
        error: why the process is not confined, and so does not run.
        program_error: why the program cannot be run, such as ``No such file or directory``.
    """

    findings: tuple[Finding, ...] = ()
    error: SandboxError | None = None
    program_error: str = ""


def read_report(text: bytes) -> LaunchReport:
    """Read what came out of the report's descriptor until its end."""
    rows: list[tuple[str, ...]] = []
    for line in text.decode("utf-8", "replace").splitlines():
        head, *rest = line.split(SEPARATOR)
        if head == "error" and len(rest) == 3:
            return LaunchReport(error=SandboxError(*rest))
        if head == "program":
            return LaunchReport(make_findings(rows), program_error=rest[0] if rest else "")
        rows.append((head, *rest))
    return LaunchReport(make_findings(rows))


def make_findings(rows: Iterable[tuple[str, ...] | Row]) -> tuple[Finding, ...]:
    """Return the findings that rows stand for; rows that are none are left out."""
    return tuple(finding for row in rows if (finding := _make_finding(row)) is not None)


def _make_finding(row: tuple[str, ...]) -> Finding | None:
    try:
        control, verdict, expected, actual, evidence, severity, way_out = row
        return Finding(
            Control(control),
            Verdict(verdict),
            expected,
            actual,
            evidence,
            Severity(severity),
            way_out,
        )
    except ValueError:
        return None

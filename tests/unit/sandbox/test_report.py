"""Tests of `kagent_sdk.sandbox.report`."""

from __future__ import annotations

from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.report import LaunchReport, read_report
from kagent_sdk.sandbox.start import SEPARATOR

LINE = ("user", "in_force", "not root", "user 1000", "geteuid(2)", "warning", "")
FINDING = Finding(
    Control.USER, Verdict.IN_FORCE, "not root", "user 1000", "geteuid(2)", Severity.WARNING
)


def written(*lines: tuple[str, ...]) -> bytes:
    """Return lines as a launched process writes them."""
    return "".join(f"{SEPARATOR.join(line)}\n" for line in lines).encode()


def test_findings_are_read() -> None:
    """The audit shows them as what was applied."""
    assert read_report(written(LINE, LINE)) == LaunchReport((FINDING, FINDING))


def test_an_error_says_control_reason_and_way_out() -> None:
    """The author reads it in one line, and knows what to do."""
    report = read_report(written(("error", "files", "no Landlock", "use Linux 6.7")))

    assert report.findings == ()
    assert report.error is not None
    assert str(report.error) == "sandbox: files: no Landlock; use Linux 6.7"
    assert report.error.control == "files"


def test_a_program_that_cannot_be_run_is_told_from_a_sandbox_that_fails() -> None:
    """One is a wrong worker.command, the other a wrong machine."""
    assert read_report(written(LINE, ("program", "No such file"))) == LaunchReport(
        (FINDING,), program_error="No such file"
    )
    assert read_report(b"program\n").program_error == ""


def test_what_is_torn_or_strange_is_left_out() -> None:
    """A process may be killed while it writes."""
    text = written(LINE, ("user", "in_force"), ("nobody", *LINE[1:])) + b"user\x1fin_\xff"

    assert read_report(text) == LaunchReport((FINDING,))
    assert read_report(b"") == LaunchReport()
    assert read_report(b"error\x1ffiles\n") == LaunchReport()

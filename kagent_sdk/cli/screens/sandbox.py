"""What of the sandbox is in force: one line for the status, and all of it for the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from kagent_sdk.cli.screens.style import (
    BAD,
    GOOD,
    NAME,
    QUIET,
    WARN,
    indented,
    joined,
    pairs,
    plain_table,
    styled,
    title,
    word,
    words,
)
from kagent_sdk.cli.text import clean_line, format_age

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from kagent_sdk.protocol.sandbox import ControlInfo, EgressDenial, SandboxInfo

WIDE = 130
"""From here on a control has room on one line of a table."""

MAX_DENIALS = 20

MANY = 3
"""So many controls with one way out are counted, not named."""

SEVERITY_STYLES = {"critical": BAD, "warning": WARN, "info": QUIET}


def sandbox_line(info: SandboxInfo) -> Text:
    """Return the line of the status screen: quiet where all holds."""
    parts = [styled(f"{info.mode}, {info.isolation}", WARN if info.mode == "off" else "")]
    if info.checked_at is None:
        return joined([*parts, styled("not audited yet", QUIET)])
    open_ones = [one for one in info.controls if not one.holds]
    critical = [one.control for one in open_ones if one.is_open]
    # What is information only is for the doctor to tell.
    others = [one.control for one in open_ones if one.severity == "warning"]
    if critical:
        parts.append(word(f"open: {', '.join(critical)}", BAD))
    if others:
        parts.append(word(f"weak: {', '.join(others)}", QUIET))
    if not critical and not others:
        parts.append(styled("all in force", GOOD))
    if critical:
        parts.append(styled("see kos-agent doctor", QUIET))
    return joined(parts)


def doctor_screen(info: SandboxInfo, now: datetime, *, source: str, width: int) -> Group:
    """Return all that was found out, and what to do, for a terminal of that many columns.

    Args:
        info: what was found out.
        now: the time.
        source: ``agent`` or ``probe``: who has found it out.
        width: of the terminal.
    """
    controls: RenderableType = (
        _table(info.controls)
        if width >= WIDE
        else Group(*(_block(control) for control in info.controls))
    )
    parts: list[RenderableType] = [_head(info, now, source), Text(), indented(controls)]
    if todo := _todo(info.controls):
        parts += [Text(), title("what to do"), indented(pairs(todo))]
    return Group(*parts)


def denial_part(denials: tuple[EgressDenial, ...], now: datetime) -> Group:
    """Return what the egress proxy has refused, each with what to do about it."""
    rows: list[tuple[str, RenderableType]] = []
    for denial in denials[:MAX_DENIALS]:
        often = f"{denial.count} times, " if denial.count > 1 else ""
        text = words(denial.message)
        text.append(f"  {often}{format_age(denial.at.isoformat(), now)}", QUIET)
        rows.append((clean_line(denial.destination or "?"), text))
    return Group(Text(), title("refused"), indented(pairs(rows)))


def _todo(controls: tuple[ControlInfo, ...]) -> list[tuple[str, RenderableType]]:
    """Return each way out once, behind the controls that it is for."""
    names: dict[str, list[str]] = {}
    for control in controls:
        if not control.holds and control.way_out:
            names.setdefault(control.way_out, []).append(control.control)
    return [
        (
            clean_line(", ".join(those)) if len(those) < MANY else f"{len(those)} controls",
            words(way_out),
        )
        for way_out, those in names.items()
    ]


def _head(info: SandboxInfo, now: datetime, source: str) -> Group:
    line = word("sandbox", NAME).append("  ")
    if info.holds:
        line.append("● all that is critical holds", GOOD)
    else:
        count = sum(control.is_open for control in info.controls)
        verb = "control does" if count == 1 else "controls do"
        line.append(f"● {count} critical {verb} not hold", BAD)
    by = "asked the running agent" if source == "agent" else "no agent runs; asked a probe"
    facts = [f"mode {info.mode}", f"isolation {info.isolation}", by]
    if info.checked_at is not None:
        facts.append(f"checked {format_age(info.checked_at.isoformat(), now)}")
    return Group(line, indented(joined([styled(fact, QUIET) for fact in facts])))


def _table(controls: tuple[ControlInfo, ...]) -> RenderableType:
    folded = ("EXPECTED", "ACTUAL", "EVIDENCE")
    table = plain_table("CONTROL", "VERDICT", "SEVERITY", *folded, fold=folded)
    for control in controls:
        table.add_row(
            word(control.control, NAME),
            _verdict(control),
            _severity(control),
            word(control.expected),
            word(control.actual, "" if control.holds else _style(control)),
            word(control.evidence, QUIET),
        )
    return table


def _block(control: ControlInfo) -> RenderableType:
    head = word(control.control, NAME).append("  ").append_text(_verdict(control))
    if not control.holds:
        head.append("  ").append_text(_severity(control))
    rows: list[tuple[str, RenderableType]] = [
        ("expected", words(control.expected)),
        ("actual", words(control.actual, "" if control.holds else _style(control))),
    ]
    if control.evidence:
        rows.append(("evidence", words(control.evidence, QUIET)))
    return Group(head, indented(pairs(rows)))


def _verdict(control: ControlInfo) -> Text:
    text = control.verdict.replace("_", " ")
    if control.holds:
        return styled(f"✓ {text}", GOOD if control.verdict == "in_force" else QUIET)
    mark = "?" if control.verdict == "unknown" else "✗"
    return styled(f"{mark} {text}", _style(control))


def _severity(control: ControlInfo) -> Text:
    return styled(control.severity, QUIET if control.holds else _style(control))


def _style(control: ControlInfo) -> str:
    return SEVERITY_STYLES[control.severity]

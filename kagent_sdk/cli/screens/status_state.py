"""The agent's durable memory on the screen: one line, and what went wrong with its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from kagent_sdk.cli.screens.style import BAD, QUIET, WARN, styled
from kagent_sdk.cli.text import clean_line, format_age, format_bytes

if TYPE_CHECKING:
    from datetime import datetime

    from kagent_sdk.protocol.status import StateInfo

NEARLY_FULL = 0.9
MAX_LINE_CHARS = 400


def state_lines(state: StateInfo, now: datetime) -> list[Text]:
    """Return what there is of the state; nothing for an agent that has none."""
    lines = [_totals(state, now)] if state.version else []
    if state.export_error is not None:
        lines.append(styled(clean_line(state.export_error, limit_chars=MAX_LINE_CHARS), BAD))
    for problem in state.problems:
        line = styled(clean_line(problem.file), BAD)
        line.append(f"  {format_age(problem.at.isoformat(), now)}: ", QUIET)
        lines.append(line.append(clean_line(problem.reason, limit_chars=MAX_LINE_CHARS), BAD))
    return lines


def _totals(state: StateInfo, now: datetime) -> Text:
    line = Text(f"{state.keys} {'key' if state.keys == 1 else 'keys'}, ")
    quota = state.quota_bytes
    is_nearly_full = quota is not None and state.used_bytes >= NEARLY_FULL * quota
    line.append(format_bytes(state.used_bytes), WARN if is_nearly_full else "")
    if quota is not None:
        line.append(f" of {format_bytes(quota)}", WARN if is_nearly_full else "")
    if state.exported_at is None:
        return line.append("  not exported yet", QUIET)
    return line.append(f"  exported {format_age(state.exported_at.isoformat(), now)}", QUIET)

"""The link to the orchestrator on the screen: one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.cli.screens.style import BAD, GOOD, QUIET, WARN, joined, styled
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from rich.text import Text

    from kagent_sdk.protocol.status import LinkInfo

STYLES = {"connecting": WARN, "up": GOOD, "down": BAD, "draining": WARN, "gone": QUIET}


def link_line(link: LinkInfo) -> Text:
    """Return how the link is; empty for an agent that has none."""
    if link.state == "off":
        return joined([])
    parts = [styled(link.state, STYLES[link.state])]
    if link.url is not None:
        parts.append(styled(clean_line(link.url), QUIET))
    if link.tasks:
        parts.append(styled(f"{link.tasks} tasks", QUIET))
    if link.pending:
        parts.append(styled(f"{link.pending} reports wait", WARN))
    if link.dropped:
        parts.append(styled(f"{link.dropped} reports dropped", BAD))
    if link.state in ("connecting", "down") and link.last_error:
        parts.append(styled(clean_line(link.last_error), BAD))
    return joined(parts)

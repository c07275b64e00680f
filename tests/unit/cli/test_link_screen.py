"""The status says at one glance whether the orchestrator hears the agent, and why not."""

from __future__ import annotations

from kagent_sdk.cli.screens.status_link import link_line
from kagent_sdk.protocol.status import LinkInfo


def test_an_agent_without_an_orchestrator_has_no_line() -> None:
    """There is nothing to say."""
    assert link_line(LinkInfo()).plain == ""


def test_a_link_that_is_up_is_quiet() -> None:
    """What is well does not stand out."""
    line = link_line(LinkInfo(state="up", url="http://o.example", tasks=2, last_error="long ago"))

    assert line.plain == "up · http://o.example · 2 tasks"


def test_a_link_that_is_down_says_why_and_what_waits() -> None:
    """Hostile text of the other side does not reach the terminal as it is."""
    line = link_line(
        LinkInfo(state="down", url="http://o", pending=3, dropped=1, last_error="no\x1b[31m answer")
    )

    assert line.plain.startswith("down · http://o · 3 reports wait · 1 reports dropped · no")
    assert "\x1b" not in line.plain

"""What `kos-agent up` shows of the fleet: a line for what happens, a table of what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from kagent_sdk.orchestrator.fleet.news import News

_STYLES = {
    "ready": "green",
    "starting": "cyan",
    "waiting": "yellow",
    "not_ready": "yellow",
    "failed": "bold red",
    "stopping": "bright_black",
    "stopped": "bright_black",
}
_BAD = ("failed", "unusable", "not_copied", "not_recorded")
_LABEL_WIDTH = 20
_QUIET = frozenset({"replica_stopped"})


def describe_news(news: News, clock: str) -> Text | None:
    """Return the line for one thing that happened; None for what a person need not see.

    Args:
        news: what happened.
        clock: the time of day.
    """
    from rich.text import Text  # noqa: PLC0415 - only a person pays for rich

    if news.event in _QUIET:
        return None
    if news.event == "fleet_started":
        return Text(f"the orchestrator listens at {clean_line(news.values['url'])}")
    if news.event == "fleet_stopped":
        return Text("all agents have stopped")
    state = news.event.removeprefix("replica_")
    label = news.agent if news.replica is None else f"{news.agent}/{news.replica}"
    bad = any(word in news.event for word in _BAD)
    style = _STYLES.get(state, "bold red" if bad else "")
    line = Text(f"{clock}  ", style="bright_black")
    line.append(f"{clean_line(label):<{_LABEL_WIDTH}} ", style="bold")
    line.append(f"{state.replace('_', ' '):<10}", style=style)
    rest = _rest_of(news)
    if rest:
        line.append(f"  {rest}", style="" if bad or state == "waiting" else "bright_black")
    return line


def fleet_table(documents: list[dict[str, Any]]) -> Table:
    """Return the table of all replicas, from documents of ``/v1/fleet``."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("AGENT", "REPLICA", "STATE", "ADDRESS", "PID", "RELEASE", "RESTARTS"):
        table.add_column(title)
    for agent in documents:
        for one in agent["replicas"]:
            state = str(one["state"])
            shown = state.replace("_", " ")
            if one["reason"]:
                shown += f" ({clean_line(one['reason'])})"
            table.add_row(
                clean_line(agent["agent"]),
                str(one["replica"]),
                Text(shown, style=_STYLES.get(state, "")),
                one["url"] or "-",
                str(one["pid"] or "-"),
                str(one["release"] or "-")[:12],
                str(one["restarts"]),
            )
    return table


def _rest_of(news: News) -> str:
    values = news.values
    parts = [str(values[key]) for key in ("url", "reason", "snapshot") if values.get(key)]
    if "retry_in_s" in values:
        parts.append(f"again in {values['retry_in_s']} s")
    if values.get("adopted"):
        parts.append("it runs already")
    if "pid" in values:
        parts.append(f"process {values['pid']}")
    if values.get("unchanged"):
        parts.append("nothing has changed")
    elif "to" in values:
        parts.append(f"{values.get('from') or 'nothing'} → {values['to']}")
    if "running" in values:
        parts.append(
            f"it runs release {values['running']}, and the folder has changed since: update it"
        )
    return clean_line("; ".join(parts))

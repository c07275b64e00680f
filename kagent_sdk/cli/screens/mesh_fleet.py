"""The agents that an orchestrator has started itself, as its fleet tells of them; not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.screens.style import BAD, NAME, QUIET, WARN, plain_table, styled, word

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Fleet = dict[str, Any]


def fleet_table(fleet: Fleet) -> Table | None:
    """Return what runs and what should, one line for each agent; None when there is nothing."""
    agents = _dicts(fleet.get("agents"))
    if not agents:
        return None
    numbers = ("READY", "RESTARTS")
    table = plain_table("AGENT", "DRIVER", *numbers, "", right=numbers, fold=("",))
    for agent in agents:
        replicas = _dicts(agent.get("replicas"))
        restarts = sum(_number(one.get("restarts")) for one in replicas)
        ready = sum(one.get("ready") is True for one in replicas)
        table.add_row(
            word(agent.get("name"), NAME),
            word(agent.get("driver"), QUIET),
            word(f"{ready} of {len(replicas)}"),
            styled(str(restarts), WARN if restarts else QUIET),
            word(agent.get("note") or "", QUIET),
        )
    return table


def fleet_problems(fleet: Fleet) -> list[Text]:
    """Return what is wrong with the agents that were started, a line each."""
    lines = []
    for agent in _dicts(fleet.get("agents")):
        if agent.get("problem"):
            lines.append(_line(agent.get("name"), agent["problem"]))
        lines += [
            _line(f"{agent.get('name')}/{one.get('replica')}", one["problem"])
            for one in _dicts(agent.get("replicas"))
            if one.get("problem")
        ]
    return lines


def _line(who: object, what: object) -> Text:
    return word(who, NAME).append("  ").append_text(word(what, BAD))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if type(value) is int else 0

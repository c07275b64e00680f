"""The agents that an orchestrator has started itself, as its fleet tells of them; not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from kagent_sdk.cli.screens.style import BAD, NAME, QUIET, WARN, plain_table, styled, word
from kagent_sdk.cli.text import format_duration

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

MAX_WAIT_S = 1e6
Fleet = dict[str, Any]
"""``{"agents": [{"agent", "ready", "replicas": how many, or a document for each of them, …}]}``."""


def fleet_table(fleet: Fleet) -> Table | None:
    """Return what runs and what should, one line for each agent; None when there is nothing."""
    agents = _dicts(fleet.get("agents"))
    if not agents:
        return None
    numbers = ("READY", "RESTARTS")
    table = plain_table("AGENT", "DRIVER", *numbers, "RELEASE", "", right=numbers, fold=("",))
    for agent in agents:
        table.add_row(
            word(agent.get("agent"), NAME),
            word(agent.get("driver"), QUIET),
            _share(agent),
            _restarts(agent),
            word(agent.get("release"), QUIET),
            _operation(agent.get("operation")),
        )
    return table


def fleet_problems(fleet: Fleet) -> list[Text]:
    """Return what is wrong with the agents that were started, a line each."""
    lines = []
    for agent in _dicts(fleet.get("agents")):
        replicas = _dicts(agent.get("replicas"))
        lines += [
            _line(f"{agent.get('agent')}/{one.get('replica')}", _why(one), BAD)
            for one in replicas
            if one.get("state") != "ready" and one.get("reason")
        ]
        operation = agent.get("operation")
        if isinstance(operation, dict) and operation.get("state") == "failed":
            why = f"{operation.get('kind')} failed: {operation.get('reason')}"
            lines.append(_line(agent.get("agent"), why, BAD))
    return lines


def _why(replica: dict[str, Any]) -> str:
    state = str(replica.get("state")).replace("_", " ")
    wait_s = replica.get("retry_in_s")
    again = f"; starts again in {format_duration(wait_s)}" if _is_duration(wait_s) else ""
    return f"{state}: {replica['reason']}{again}"


def _is_duration(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value < MAX_WAIT_S


def _line(who: object, what: object, style: str) -> Text:
    return word(who, NAME).append("  ").append_text(word(what, style))


def _share(agent: dict[str, Any]) -> Text:
    replicas = agent.get("replicas")
    count = len(replicas) if isinstance(replicas, list) else _number(replicas)
    ready = _number(agent.get("ready"))
    return styled(f"{ready} of {count}", "" if ready == count else WARN if ready else BAD)


def _restarts(agent: dict[str, Any]) -> Text:
    replicas = agent.get("replicas")
    if not isinstance(replicas, list):
        return word(None)
    count = sum(_number(one.get("restarts")) for one in _dicts(replicas))
    return styled(str(count), WARN if count else QUIET)


def _operation(operation: object) -> Text:
    if not isinstance(operation, dict) or operation.get("state") != "running":
        return styled("")
    return word(f"{operation.get('kind')} is going on", WARN)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if type(value) is int else 0

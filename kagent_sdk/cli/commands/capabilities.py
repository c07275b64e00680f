"""kos-agent capabilities."""

from __future__ import annotations

from typing import Any

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.calls import open_calls
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.output import print_json, print_screen, say
from kagent_sdk.cli.text import clean_line, nearest


@click.command("capabilities")
@click.argument("name", required=False)
@agent_options
def command(options: AgentOptions, *, name: str | None) -> None:
    """List what the agent can do; with NAME describe that capability, with an example call."""
    with open_calls(options) as calls:
        found = join_offers(calls.capabilities())
    if name is not None:
        found = [pick(found, name)]
    if options.as_json:
        print_json({"capabilities": found} if name is None else found[0])
        return
    from kagent_sdk.cli.screens.capabilities import (  # noqa: PLC0415 - rich is for people
        capability_detail,
        capability_table,
    )

    if name is not None:
        print_screen(capability_detail(found[0]))
    elif found:
        print_screen(capability_table(found))
    else:
        say("the agent has no capabilities")


def join_offers(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each capability of a mesh once, with all ``agents`` that offer just this.

    An orchestrator tells of every agent's capabilities, with the name of one ``agent``. What agents
    of one name describe otherwise stays apart.
    """
    joined: list[dict[str, Any]] = []
    for one in found:
        if "agent" not in one:
            joined.append(one)
            continue
        manifest = {key: value for key, value in one.items() if key != "agent"}
        for other in joined:
            if {key: value for key, value in other.items() if key != "agents"} == manifest:
                other["agents"].append(one["agent"])
                break
        else:
            joined.append({**manifest, "agents": [one["agent"]]})
    return joined


def _by_name(capabilities: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return capabilities by their names, the plain ones first; the first of a name counts."""
    by_name: dict[str, dict[str, Any]] = {}
    for one in capabilities:
        by_name.setdefault(str(one.get("name")), one)
    for one in capabilities:
        agents = one.get("agents")
        for agent in agents if isinstance(agents, list) else ():
            name = f"{agent}/{one.get('name')}"
            by_name.setdefault(name, {**one, "name": name})
    return by_name


def pick(capabilities: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the capability of a name; of an orchestrator's also by ``agent/name``.

    Raises:
        UsageError: there is none; the message has the nearest name.
    """
    by_name = _by_name(capabilities)
    if name in by_name:
        return by_name[name]
    near = nearest(name, by_name)
    way_out = (
        f"did you mean '{clean_line(near)}'?"
        if near
        else "see what there is: kos-agent capabilities"
    )
    raise UsageError(f"no capability '{clean_line(name)}'; {way_out}", code="unknown_capability")

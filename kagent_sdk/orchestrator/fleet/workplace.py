"""What a replica finds when it starts: its configuration, its environment, its user. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.orchestrator.fleet.containers import SNAPSHOTS_INSIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config.mesh import MeshAgent
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.orchestrator.fleet.layout import Place

NOT_INHERITED = ("AGENT_CONFIG", "AGENT_TOKEN_FILE", "AGENT_ORCHESTRATOR", "AGENT_HTTP__")
"""Beginnings of variables that belong to another agent, or to this orchestrator."""

LOOPBACK = "127.0.0.1"
CONTAINER_PORT = 8080


@dataclass(frozen=True, slots=True)
class LinkGrounds:
    """What agents need to find their orchestrator.

    Attributes:
        url: of it, or of NATS; None: there is no link.
        token: to show; None: there is none.
    """

    url: str | None
    token: str | None

    def __repr__(self) -> str:
        return f"LinkGrounds(url={self.url!r})"


def environment_of(
    name: str,
    spec: MeshAgent,
    place: Place,
    link: LinkGrounds,
    environ: Mapping[str, str],
    *,
    has_own_destination: bool = False,
) -> dict[str, str]:
    """Return the environment of a replica's host; pure.

    What overrides keys of config.yaml in the orchestrator's own environment holds for its agents as it
    would for ``kos-agent run``; what the mesh says goes over that.

    Args:
        name: of the agent.
        spec: of the mesh.
        place: of the replica.
        link: where the orchestrator is.
        environ: the orchestrator's own.
        has_own_destination: its configuration says where snapshots go.
    """
    found = inherited(environ) | {
        "AGENT_LOGS__TEE": "none",  # the log has it all; what comes before the log goes to a file
        **spec.variables(),
        "AGENT_NAME": name,
        "AGENT_HTTP__HOST": LOOPBACK,
        "AGENT_HTTP__PORT": "0",
        "AGENT_HTTP__AUTH": "token",
        "AGENT_HTTP__TLS": "null",  # on loopback, where the orchestrator shows no certificate
        "AGENT_TOKEN_FILE": str(place.token),
        "AGENT_ORCHESTRATOR__URL": link.url or "null",
        "AGENT_ORCHESTRATOR__DELIVERY": spec.delivery,
    }
    if spec.driver == "container":
        found = _contained(found)
    elif link.token is not None:
        found["AGENT_ORCHESTRATOR_TOKEN_FILE"] = str(place.link_token)
    if spec.labels:
        found["AGENT_ORCHESTRATOR__LABELS"] = json.dumps(dict(spec.labels))
    if not has_own_destination:
        kept = SNAPSHOTS_INSIDE if spec.driver == "container" else str(place.snapshots)
        found["AGENT_SNAPSHOTS__DESTINATION"] = kept
    return found


def _contained(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of an agent in a container: files of this machine are not in it; pure."""
    found = {key: value for key, value in environment.items() if key != "AGENT_TOKEN_FILE"}
    return found | {
        "AGENT_HTTP__HOST": "0.0.0.0",  # noqa: S104 - of the container; this machine shows it on loopback
        "AGENT_HTTP__PORT": str(CONTAINER_PORT),
    }


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the orchestrator's own environment its agents get; pure."""
    return {key: value for key, value in environ.items() if not key.startswith(NOT_INHERITED)}


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder that is ready for a start.

    Attributes:
        config: what the agent will read in it.
        environment: of the host.
        owner: whom the host becomes; None: it stays who the orchestrator is.
    """

    config: AgentConfig
    environment: Mapping[str, str]
    owner: int | None

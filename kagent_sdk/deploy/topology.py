"""What of an agent's surroundings Compose and Quadlet tell alike: networks, names, mounts. Pure.

An agent with an allow-list is on networks without a way out; its egress container is on one of them and
on an ordinary network, and checks the same list once more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.deploy.deployment import MAX_NAME
from kagent_sdk.deploy.engine_flags import Mount, vault_mount
from kagent_sdk.errors import DeployError
from kagent_sdk.sandbox.policy import MEBIBYTE

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

EGRESS_PORT = 3128
"""Of the egress container, inside."""

_EGRESS = "-egress"

UPSTREAM_VARIABLE = "AGENT_SANDBOX__NETWORK__UPSTREAM"
"""Set on the agent's container alone: both read the same config.yaml."""

MESH_ENDING = ".internal"
"""Of names on the mesh: nobody outside can give out such a name, so an allow-list may have it."""

EGRESS_MEMORY_BYTES = 256 * MEBIBYTE
"""256 connections hold some hundred KiB each at most, and Python its modules."""

EGRESS_PROCESSES = 64
"""One process, and a thread for each of eight lookups of names at a time."""

EGRESS_FILES = 1024
"""Two sockets for each of 256 connections, and some."""

EGRESS_CPU = 1.0

EGRESS_STOP_S = 10
"""It cuts what is open and ends in less than a second."""

EGRESS_HEALTH = (
    "python3",
    "-c",
    f"import socket; socket.create_connection(('127.0.0.1', {EGRESS_PORT}), 2).close()",
)
"""It listens: there is nothing else that could be wrong with it and not end it."""

MOST_RESTARTS = 5
"""In a row. Exit codes 78 (configuration), 3 (cannot start) and 75 (crashes again and again) do not go
away by themselves."""

EMPTY_FOLDERS = ("/tmp", "/run", "/var/tmp")  # noqa: S108 - named, not written
"""Podman lays writable memory over these where the root is read-only; a mount of ours takes its place."""

MOUNTED = "noexec,nosuid,nodev"
"""How everything is mounted that is not the image's."""

_PLAIN = re.compile(r"[A-Za-z0-9._/@+-]{1,4096}")

EMPTY_BYTES = 65536
"""Of what nobody writes: the smallest that every engine takes."""


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks that the manifests of one agent speak of, by their roles.

    ``private`` is between the agent and its egress container alone, ``mesh`` is shared by agents; both are
    without a way out. ``outside`` is an ordinary one.

    Attributes:
        of_agent: those that the agent is on.
        of_egress: those that its egress container is on.
    """

    of_agent: tuple[str, ...]
    of_egress: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, in a stable order."""
        return tuple(dict.fromkeys((*self.of_agent, *self.of_egress)))


def find_networks(deployment: Deployment) -> Networks:
    """Return the networks of an agent, by their roles in a manifest: private, mesh, outside.

    Raises:
        DeployError: the port is to be shown on the machine, and the agent is on no network from which
            an engine would.
    """
    if deployment.policy.network.external:
        return Networks(("mesh", "outside"), ())
    if deployment.settings.publish is not None:
        raise DeployError(
            "publish: engines show no port of a container that has no way out; leave it out and call the "
            "agent from its mesh, or set sandbox.network.external: true"
        )
    if deployment.needs_proxy:
        return Networks(("private", "mesh"), ("private", "outside"))
    return Networks(("mesh",), ())


def egress_name(deployment: Deployment) -> str:
    """Return the name of an agent's egress container."""
    return f"{deployment.name[: MAX_NAME - len(_EGRESS)].rstrip('-')}{_EGRESS}"


def egress_command() -> tuple[str, ...]:
    """Return the words behind ``kos-agent`` in the egress container."""
    return ("sandbox", "egress", "/agent", "--listen", f"0.0.0.0:{EGRESS_PORT}")


def environment_of(deployment: Deployment) -> dict[str, str]:
    """Return the variables of the agent's container."""
    variables = dict(deployment.environment)
    if deployment.needs_proxy:
        variables[UPSTREAM_VARIABLE] = f"{egress_name(deployment)}:{EGRESS_PORT}"
    return variables


def vault_of(deployment: Deployment, folder: str) -> Mount | None:
    """Return how the vault gets into the container, or None where there is none.

    Args:
        deployment: of the agent.
        folder: the vault's on the machine, unless a setting says another.
    """
    return vault_mount(deployment, (deployment.settings.vault or folder).rstrip("/"))


def mount_text(source: str, target: str, options: str) -> str:
    """Return a mount in the short spelling that all engines share.

    Raises:
        DeployError: a path has what would end it there.
    """
    for path in (source, target):
        if _PLAIN.fullmatch(path) is None:
            raise DeployError(
                f"{path!r} has characters that manifests cannot hold; use letters, digits and ._/@+-"
            )
    return f"{source}:{target}:{options}" if options else f"{source}:{target}"


def scratch_bytes(deployment: Deployment) -> int:
    """Return how large a volume in memory is: it counts as the container's memory."""
    memory = deployment.policy.limits.memory_bytes
    return 64 * MEBIBYTE if memory is None else memory // 4

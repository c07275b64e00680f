"""What the fleet asks of a container engine. Who knows engines and their flags implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SNAPSHOTS_INSIDE = "/snapshots"
"""Where a container sees the replica's snapshots, which are beside its folder and outlive that."""


@dataclass(frozen=True, slots=True)
class ContainerOrder:
    """A replica that is to run in a container.

    Attributes:
        folder: in which it works: with its configuration, runtime, logs and secrets.
        image: by its id or name.
        name: of the container.
        port: of this machine's loopback that leads to its control plane.
        network: of the engine, that it is on.
        snapshots: what it sees as `SNAPSHOTS_INSIDE`; None: its configuration says where they go.
        environ: what the engine's command is run with; what is the agent's of it reaches the agent.
    """

    folder: Path
    image: str
    name: str
    port: int
    network: str
    snapshots: Path | None
    environ: Mapping[str, str]


class Containers(Protocol):
    """An engine of this machine. Everything blocks, and raises OrchestratorError or ConfigError."""

    def find_image(self, folder: Path, wanted: str | None, environ: Mapping[str, str]) -> str:
        """Return the id of the image that the agent in a folder has at this moment.

        Args:
            folder: of the agent.
            wanted: the image's name; None: what its configuration makes of it.
            environ: what overrides its configuration.
        """

    def command(self, order: ContainerOrder) -> list[str]:
        """Return a command that runs until the container ends, and hands signals on to it.

        Its working directory is the replica's folder, its environment the order's.
        """

    def restore(self, order: ContainerOrder, snapshot: str) -> str | None:
        """Give the replica the contents of a snapshot, by its name; return why that failed.

        Nothing runs in its folder. What is restored is as old as the image: so it is the release in the
        image that reads it.
        """

    def remove(self, name: str) -> None:
        """Remove a container, running or not; one that is not there is no error."""

"""The two ways to run a replica: as processes of this machine, or in a container of its engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.client import Address, find_address
from kagent_sdk.orchestrator.fleet.containers import SNAPSHOTS_INSIDE, ContainerOrder
from kagent_sdk.orchestrator.fleet.ownership import read_secret
from kagent_sdk.orchestrator.fleet.releases import image_in
from kagent_sdk.orchestrator.fleet.snapshots import TRIES, newest_first, restore_latest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kagent_sdk.config.mesh import MeshAgent
    from kagent_sdk.orchestrator.fleet.containers import Containers
    from kagent_sdk.orchestrator.fleet.layout import Place
    from kagent_sdk.orchestrator.fleet.workplace import Workplace


class Driver(Protocol):
    """A way to run replicas of one agent. Everything blocks: use it in a thread."""

    def find_image(self, source: Path, environ: Mapping[str, str]) -> str | None:
        """Return what belongs to a release beside the author's files; None: nothing.

        Raises:
            OrchestratorError: it is not there.
        """

    def command(self, release: Path, place: Place, workplace: Workplace) -> list[str]:
        """Return the program that runs a replica of a release, and its arguments.

        Raises:
            OrchestratorError, OSError: it cannot be run.
        """

    def address_of(self, place: Place, pid: int) -> Address | None:
        """Return how to reach a replica whose process has this number; None before it listens."""

    def restore(
        self, release: Path, place: Place, workplace: Workplace
    ) -> tuple[str | None, str | None]:
        """Give a replica without a journal its latest snapshot, if it has one.

        Returns:
            The name of the one that was restored, and what was wrong with those before it; None for
            each where there is nothing to tell.
        """

    def clear(self, place: Place) -> None:
        """Remove what outlives the process of a replica: that is the engine's, and not the agent's."""


@dataclass(frozen=True, slots=True)
class ProcessDriver:
    """Runs hosts of this machine."""

    def find_image(self, source: Path, environ: Mapping[str, str]) -> str | None:
        """Return nothing: the author's files are all of a release."""
        return None

    def command(self, release: Path, place: Place, workplace: Workplace) -> list[str]:
        """Return ``kos-agent run``."""
        return [sys.executable, "-m", "kagent_sdk", "run", str(place.folder)]

    def address_of(self, place: Place, pid: int) -> Address | None:
        """Return what the host has written of itself."""
        found = find_address(place)
        return None if found is None or found.pid != pid else found

    def restore(
        self,
        release: Path,
        place: Place,
        workplace: Workplace,
    ) -> tuple[str | None, str | None]:
        """Restore it here, as the agent's user."""
        return restore_latest(place, workplace)

    def clear(self, place: Place) -> None:
        """Do nothing: workers end with their host."""


@dataclass(frozen=True, slots=True)
class ContainerDriver:
    """Runs containers.

    Attributes:
        containers: the engine.
        network: of the engine, that the agent is on.
        image: its name; None: as its configuration says.
    """

    containers: Containers
    network: str
    image: str | None

    def find_image(self, source: Path, environ: Mapping[str, str]) -> str:
        """Return the id of the agent's image: a name may be another image's tomorrow."""
        return self.containers.find_image(source, self.image, environ)

    def command(self, release: Path, place: Place, workplace: Workplace) -> list[str]:
        """Return the engine's command."""
        return self.containers.command(self._order(release, place, workplace))

    def address_of(self, place: Place, pid: int) -> Address | None:
        """Return the port of this machine, as soon as somebody listens behind it."""
        try:
            port, token = read_secret(place.port), read_secret(place.token)
        except OSError:
            return None
        if port is None or not place.host_file.exists():
            return None
        return Address(pid, f"http://127.0.0.1:{port}", token)

    def restore(
        self, release: Path, place: Place, workplace: Workplace
    ) -> tuple[str | None, str | None]:
        """Restore it in a container: the agent's user may have no way to the folder on this machine."""
        if place.journal.exists():
            return None, None
        wrong = None
        for path in newest_first(place.snapshots)[:TRIES]:
            order = self._order(release, place, workplace)
            reason = self.containers.restore(order, path.name)
            if reason is None:
                return path.name, wrong
            wrong = wrong or f"{path.name}: {reason}"
        return None, wrong

    def clear(self, place: Place) -> None:
        """Remove a container that has lost the process that ran it."""
        self.containers.remove(place.container)

    def _order(self, release: Path, place: Place, workplace: Workplace) -> ContainerOrder:
        environ = workplace.environment
        is_ours = environ.get("AGENT_SNAPSHOTS__DESTINATION") == SNAPSHOTS_INSIDE
        return ContainerOrder(
            folder=place.folder,
            image=image_in(release) or self.find_image(place.folder, environ),
            name=place.container,
            port=int(read_secret(place.port) or 0),
            network=self.network,
            snapshots=place.snapshots if is_ours else None,
            environ=environ,
        )


def make_driver(spec: MeshAgent, containers: Containers | None) -> Driver:
    """Return how an agent of a mesh is run.

    Args:
        spec: of the mesh.
        containers: the engine; None: there is none.

    Raises:
        OrchestratorError: it is for containers, and there is none.
    """
    if spec.driver == "process":
        return ProcessDriver()
    if containers is None:
        raise OrchestratorError("driver: container needs an engine, which kos-agent up has")
    assert spec.network is not None, "mesh.yaml is checked"
    return ContainerDriver(containers, spec.network, spec.image)

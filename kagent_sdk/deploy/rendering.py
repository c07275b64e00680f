"""What an exporter returns, and where each is: a table, so that one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Rendering:
    """Manifests of one kind.

    Attributes:
        main: the name of the file that stands for all.
        files: each file's text, by its name; names have no folder.
        programs: names of those that are to be executable.
        notes: what has to be done by hand, a line each.
    """

    main: str
    files: Mapping[str, str]
    programs: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """A module of ``kagent_sdk.deploy`` that makes manifests of one kind."""

    def render(self, deployment: Deployment) -> Rendering:
        """Return the manifests. Pure: the same deployment, the same bytes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of manifest before its module is imported: where it lives, what the help says."""

    module: str
    summary: str

    def load(self) -> Exporter:
        """Import the exporter."""
        return cast("Exporter", import_module(f"kagent_sdk.deploy.{self.module}"))


TARGETS: Mapping[str, Target] = {
    "compose": Target("compose", "A compose file, for podman-compose and docker compose."),
    "docker-run": Target("docker_run", "A command line for podman or docker."),
    "kubernetes": Target("kubernetes", "Manifests for Kubernetes and podman play kube."),
    "nsjail": Target("nsjail", "A configuration for nsjail."),
    "oci-hook": Target("oci_hook", "A hook that vetoes containers that are not locked down."),
    "quadlet": Target("quadlet", "Units for systemd, by podman's Quadlet."),
    "seccomp": Target("seccomp", "A seccomp profile for container engines."),
}

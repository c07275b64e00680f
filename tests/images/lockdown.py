"""How these tests start an agent's container: locked down by the flags that are made from its configuration."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.config import read_config
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.engine_flags import Mount, Surroundings, engine_flags, words_of
from kagent_sdk.deploy.seccomp import PROFILE, profile_text
from kagent_sdk.deploy.settings import Settings
from tests.images.podman import Container, Podman, most_processes


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts containers of one agent's image.

    Attributes:
        podman: the engine.
        image: of the agent.
        source: the agent's folder, for its config.yaml.
        folder: what the container mounts: ``runtime``, ``logs``, ``secrets``.
        name: what the containers' names begin with.
        network: of the engine.
    """

    podman: Podman
    image: str
    source: Path
    folder: Path
    name: str
    network: str = "none"

    def start(
        self, *flags: str | Path, words: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Container:
        """Start a container, and return before its agent is ready.

        Args:
            flags: more of them; the last one of a kind counts.
            words: behind the image's name.
            env: variables, beside the image's.
        """
        deployment = read_deployment(self.source, self.image)
        profile = self.folder / PROFILE
        profile.write_text(profile_text(deployment))
        surroundings = Surroundings(
            name=f"{self.name}-{uuid.uuid4().hex[:4]}",
            mounts=tuple(self._find_mounts()),
            networks=(self.network,),
            seccomp=str(profile),
            environment=tuple((env or {}).items()),
            most_processes=most_processes(),
        )
        given = words_of(engine_flags(deployment, surroundings))
        return self.podman.start(surroundings.name, *given, *flags, self.image, *words)

    def start_ready(self, *flags: str | Path, env: Mapping[str, str] | None = None) -> Container:
        """Start a container and wait until its agent takes tasks."""
        container = self.start(*flags, env=env)
        container.wait_ready()
        return container

    def _find_mounts(self) -> Iterator[Mount]:
        for name in ("runtime", "logs", "secrets"):
            yield Mount(str(self.folder / name), f"/agent/{name}", is_writable=name != "secrets")


def read_deployment(source: Path, image: str) -> Deployment:
    """Return what manifests of the agent in a folder are made from."""
    config = read_config(source, environ={}).config
    return describe(config, source.name, Settings(image=image))

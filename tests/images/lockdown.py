"""How these tests start an agent's container: locked down by the flags that its policy gives."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.config import read_config
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.seccomp import PROFILE, profile_text
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.sandbox.policy import HOST_PROCESSES
from tests.images.podman import Container, Podman, machine_flags


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
        name = f"{self.name}-{uuid.uuid4().hex[:4]}"
        variables = [f"--env={key}={value}" for key, value in (env or {}).items()]
        deployment = read_deployment(self.source, self.image)
        given = engine_flags(deployment, self.folder, self.network)
        return self.podman.start(
            name, *given, *machine_flags(), *flags, *variables, self.image, *words
        )

    def start_ready(self, *flags: str | Path, env: Mapping[str, str] | None = None) -> Container:
        """Start a container and wait until its agent takes tasks."""
        container = self.start(*flags, env=env)
        container.wait_ready()
        return container


def read_deployment(source: Path, image: str) -> Deployment:
    """Return what manifests of the agent in a folder are made from."""
    config = read_config(source, environ={}).config
    return describe(config, source.name, Settings(image=image))


def engine_flags(deployment: Deployment, folder: Path, network: str) -> list[str]:
    """Return the flags between ``podman run`` and the image's name.

    Args:
        deployment: of the agent.
        folder: what is mounted; takes the seccomp profile too.
        network: of the engine, or ``none``.
    """
    profile = folder / PROFILE
    profile.write_text(profile_text(deployment))
    limits = deployment.policy.limits
    flags = [
        "--user=1000:1000",
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--security-opt=seccomp={profile}",
        f"--memory={limits.memory_bytes}",
        f"--memory-swap={limits.memory_bytes}",
        f"--cpus={limits.cpu_cores:g}",
        f"--pids-limit={(limits.processes or 0) + HOST_PROCESSES}",
        "--ulimit=core=0:0",
        f"--ulimit=nofile={limits.open_files}:{limits.open_files}",
        f"--network={network}",
    ]
    for name, mode in (("runtime", "rw"), ("logs", "rw"), ("secrets", "ro")):
        flags.append(f"--volume={folder / name}:/agent/{name}:{mode},noexec,nosuid,nodev")
    return flags

"""What an engine is told to make an agent's image. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.deploy.engine_flags import LABEL

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

BASE = "kos/agent-base"
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Build:
    """One image to make.

    Attributes:
        engine: ``podman``, ``buildah`` or ``docker``.
        context: the folder of what may be in it; absolute.
        dockerfile: absolute.
        network: of the build's steps; None: as the engine has it.
    """

    engine: str
    context: str
    dockerfile: str
    network: str | None = None


def dockerfile_text(base: str, requirements: bytes | None = None) -> str:
    """Return the Dockerfile of an agent that has none: what it needs, then what it is.

    The code is copied last and belongs to root: a change of it installs nothing anew, and no process of
    the agent can change it.

    Args:
        base: the image that it is made from.
        requirements: the content of requirements.txt, if there is one.
    """
    lines = [f"FROM {base}"]
    if requirements is not None:
        # buildah takes a step for done that mounts a file which has changed: the step has its digest.
        digest = hashlib.sha256(requirements).hexdigest()[:16]
        lines.append(
            f"RUN --mount=type=bind,source={REQUIREMENTS},target=/tmp/{REQUIREMENTS} "
            f"python3 -m pip install --no-cache-dir -r /tmp/{REQUIREMENTS} && : sha256 {digest}"
        )
    lines.append("COPY . /agent/")
    return "\n".join(lines) + "\n"


def build_command(deployment: Deployment, build: Build) -> list[str]:
    """Return the command that makes the image; its output is for people."""
    words = [build.engine, "build"]
    if build.engine != "docker":
        # OCI's own format has no HEALTHCHECK.
        words.append("--format=docker")
    words += [f"--file={build.dockerfile}", f"--tag={deployment.image}"]
    words += [
        f"--label={LABEL}={deployment.name}",
        f"--label=org.opencontainers.image.title={deployment.name}",
        f"--label=org.opencontainers.image.version={deployment.version}",
    ]
    if build.network is not None:
        words.append(f"--network={build.network}")
    return [*words, build.context]

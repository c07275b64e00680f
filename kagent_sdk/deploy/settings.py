"""What differs from one environment to the next: ``--set KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from kagent_sdk.config.section import MEBIBYTE, Section
from kagent_sdk.errors import DeployError

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""RFC 1123: what Kubernetes takes as the name of most things."""

Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}$")]
PublishedAt = Annotated[
    str, StringConstraints(pattern=r"^(([0-9.]{7,15}|\[[0-9a-f:]{2,45}\]):)?[0-9]{1,5}$")
]
AbsolutePath = Annotated[
    str, StringConstraints(pattern=r"^(/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+$", max_length=4096)
]

NodePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}){0,5}$"
    ),
]
"""Relative, and never up: no part begins with a dot."""


class Settings(Section):
    """Where and how an agent is deployed; what it may do is in its config.yaml alone."""

    image: Image | None = Field(None, description="The agent's image; NAME:VERSION if unset.")
    namespace: DnsLabel | None = Field(None, description="kubernetes: the namespace.")
    replicas: int = Field(1, ge=1, le=1000, description="kubernetes: how many agents run.")
    max_replicas: int | None = Field(
        None, ge=2, le=1000, description="kubernetes: scale up to so many, by CPU."
    )
    storage: Literal["volume", "ephemeral"] = Field(
        "volume", description="Whether runtime/ and logs/ outlive the container."
    )
    storage_bytes: int = Field(
        1024 * MEBIBYTE, ge=MEBIBYTE, description="kubernetes: how large the claim is."
    )
    storage_class: DnsLabel | None = Field(None, description="kubernetes: of which class.")
    vault: str | None = Field(
        None,
        max_length=4096,
        description="kubernetes: the Secret with vault.json; else the folder of the machine.",
    )
    publish: PublishedAt | None = Field(
        None, description="compose, quadlet, docker-run, nsjail: where the machine shows the port."
    )
    engine: Literal["podman", "docker"] = Field("podman", description="docker-run: for which one.")
    network: DnsLabel | None = Field(
        None, description="docker-run: a network of the engine; give one that leads nowhere out."
    )
    mesh: DnsLabel = Field(
        "kos-mesh",
        description="compose, quadlet: the network that agents share, without a way out.",
    )
    orchestrator_image: Image | None = Field(
        None, description="compose: run an orchestrator of this image beside the agent."
    )
    hook_path: AbsolutePath = Field(
        "/usr/local/libexec/kos-agent-hook", description="oci-hook: where the program will stand."
    )
    hook_for: Literal["containers", "pods"] = Field(
        "containers",
        description="oci-hook: pods share network and IPC; a kubelet limits processes itself.",
    )
    folder: AbsolutePath | None = Field(
        None, description="nsjail: the agent's folder on the machine; /srv/NAME if unset."
    )
    python: AbsolutePath = Field(
        "/opt/kos",
        description="nsjail: the virtual environment on the machine that has kos-agent.",
    )
    monitoring: bool = Field(default=False, description="kubernetes: add a ServiceMonitor.")
    seccomp_profile: NodePath | None = Field(
        None,
        description="kubernetes: a profile on the node, below the kubelet's folder of profiles; "
        "else the runtime's own.",
    )
    for_podman: bool = Field(
        default=False, description="kubernetes: for podman play kube, not for a cluster."
    )


def read_settings(pairs: Iterable[str]) -> Settings:
    """Return settings from the words behind ``--set``.

    Args:
        pairs: ``KEY=VALUE`` each; the last word on a key counts.

    Raises:
        DeployError: a line for everything that is wrong.
    """
    values: dict[str, str | None] = {}
    problems: list[str] = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            problems.append(f'"{pair}" should be KEY=VALUE')
        elif key not in Settings.model_fields:
            problems.append(f'there is no setting "{key}"; {_way_out(key)}')
        else:
            values[key] = value or None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        problems += [f"{_where(error['loc'])}: {error['msg']}" for error in exc.errors()]
    else:
        if not problems:
            return settings
    raise DeployError("\n".join(problems))


def _way_out(key: str) -> str:
    near = get_close_matches(key.lower().replace("-", "_"), Settings.model_fields, n=1)
    return f'did you mean "{near[0]}"?' if near else f"they are {', '.join(Settings.model_fields)}"


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)

"""Which of the containers of a manifest are the agent's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.facts import Role
from kagent_sdk.errors import DeployError

LABEL = "io.kos.agent"
"""Label of everything that belongs to an agent; its value is the agent's name."""

EGRESS = ["sandbox", "egress"]
"""The words by which the image is the egress proxy."""

T = TypeVar("T")


def role_of(wanted: Deployment, command: Sequence[str]) -> Role:
    """Return what a container is for; the egress proxy is one where the policy has one."""
    words = [word for word in command if word != "kos-agent"]
    if words[:2] == EGRESS and wanted.needs_proxy:
        return Role.EGRESS
    return Role.AGENT


def repository(image: str) -> str:
    """Return an image's name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def is_ours(wanted: Deployment, name: str, image: str | None, label: str | None) -> bool:
    """Tell whether a container, or what holds it, is the agent's or its egress proxy's."""
    if label is not None:
        return label == wanted.name
    ours = {wanted.name, f"{wanted.name}-egress"}
    return name in ours or (image is not None and repository(image) == repository(wanted.image))


def choose(
    found: Sequence[T], ours: Iterable[T], names: Sequence[str], wanted: Deployment
) -> list[T]:
    """Return those that are the agent's; the only one there is, is.

    Raises:
        DeployError: none is, and there are several.
    """
    chosen = list(ours)
    if chosen or len(found) <= 1:
        return chosen or list(found)
    raise DeployError(
        f"none of {', '.join(names[:10])} has the image {wanted.image}, the label "
        f"{LABEL}={wanted.name} or that name; --set image=IMAGE names the one to compare"
    )

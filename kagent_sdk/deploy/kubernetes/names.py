"""What the documents of one agent are called, and by which labels they find each other. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kagent_sdk.deploy.deployment import MAX_NAME
from kagent_sdk.errors import DeployError

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

AGENT, EGRESS, REPLICAS = "agent", "egress", "replicas"
"""Components: what runs the agent, its way out, and the names of single replicas."""

MESH = {"io.kos/mesh": "true"}
"""On every agent and orchestrator: they reach each other."""

# Of a Secret (RFC 1123, a subdomain).
_SECRET_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def join(name: str, suffix: str) -> str:
    """Return ``NAME-SUFFIX`` as a DNS label; a long name is cut, never the suffix."""
    return f"{name[: MAX_NAME - 1 - len(suffix)].rstrip('-')}-{suffix}"


def find_labels(deployment: Deployment, component: str) -> dict[str, str]:
    """Return the labels of everything that belongs to a component."""
    version = re.sub(r"[^A-Za-z0-9._-]+", "-", deployment.version)[:MAX_NAME].strip("._-")
    return {
        **selector(deployment, component),
        **({"app.kubernetes.io/version": version} if version else {}),
        "app.kubernetes.io/part-of": "kos",
        "app.kubernetes.io/managed-by": "kos-agent",
    }


def selector(deployment: Deployment, component: str) -> dict[str, str]:
    """Return the labels that select a component; they never change, for Kubernetes forbids it."""
    return {
        "app.kubernetes.io/name": deployment.name,
        "app.kubernetes.io/component": component,
    }


def metadata(deployment: Deployment, suffix: str = "", component: str = AGENT) -> dict[str, Any]:
    """Return the ``metadata`` of a document."""
    namespace = deployment.settings.namespace
    return {
        "name": join(deployment.name, suffix) if suffix else deployment.name,
        **({"namespace": namespace} if namespace else {}),
        "labels": find_labels(deployment, component),
    }


def pod_metadata(deployment: Deployment, component: str) -> dict[str, Any]:
    """Return the ``metadata`` of a Pod's template."""
    mesh = MESH if component == AGENT else {}
    return {
        "labels": {**find_labels(deployment, component), "io.kos.agent": deployment.name, **mesh},
        "annotations": {"io.kos.agent": "true", **_podman_annotations(deployment, component)},
    }


def find_secret(deployment: Deployment) -> str:
    """Return the name of the Secret, or with podman of the volume, that holds the vault.

    Raises:
        DeployError: the setting is no name of a Secret.
    """
    name = deployment.settings.vault or join(deployment.name, "vault")
    if _SECRET_NAME.fullmatch(name) is None:
        raise DeployError(
            f'vault: "{name}" is no name of a Secret, such as {deployment.name}-vault'
        )
    return name


def _podman_annotations(deployment: Deployment, component: str) -> dict[str, str]:
    """Return what podman reads from annotations alone."""
    profile = deployment.settings.seccomp_profile
    if not deployment.settings.for_podman or profile is None:
        return {}
    return {f"container.seccomp.security.alpha.kubernetes.io/{component}": f"localhost/{profile}"}

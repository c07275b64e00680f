"""The Pods: what the agent's, and that of its way out, may do and use. Pure."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kagent_sdk.deploy.deployment import AGENT_FOLDER
from kagent_sdk.deploy.kubernetes.documents import comment
from kagent_sdk.deploy.kubernetes.names import (
    AGENT,
    EGRESS,
    find_secret,
    join,
    pod_metadata,
    selector,
)
from kagent_sdk.errors import DeployError
from kagent_sdk.sandbox.policy import AGENT_ID, MEBIBYTE

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment, Volume

EGRESS_PORT = 3128
"""Where the second proxy listens."""

STOP_S = 5
"""From the end of the agent's grace to the kill: its last writes, and a machine that is busy."""

VAULT = "vault"

_GROUP = {
    **comment("Volumes belong to root and this group, so that the agent can write them."),
    "fsGroup": AGENT_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
}
_UNITS = (("Gi", 1024 * MEBIBYTE), ("Mi", MEBIBYTE), ("Ki", 1024))


def quantity(count_bytes: int) -> str:
    """Return bytes as Kubernetes writes them, such as ``512Mi``."""
    for unit, size in _UNITS:
        if count_bytes % size == 0:
            return f"{count_bytes // size}{unit}"
    return str(count_bytes)


def is_on_claim(volume: Volume) -> bool:
    """Tell whether a volume outlives its Pod. The log does not: it goes to stdout as well."""
    return volume.is_kept and volume.name != "logs"


def agent_template(deployment: Deployment, *, has_own_claims: bool) -> dict[str, Any]:
    """Return the template of the agent's Pods.

    Args:
        deployment: the agent.
        has_own_claims: each Pod has claims of its own, which its StatefulSet adds.

    Raises:
        DeployError: the vault cannot be mounted.
    """
    volumes = [
        _volume(deployment, volume)
        for volume in deployment.volumes
        if not (has_own_claims and is_on_claim(volume))
    ]
    mounts: list[dict[str, Any]] = [
        {"name": join(deployment.name, volume.name), "mountPath": volume.target}
        for volume in deployment.volumes
    ]
    if needs_secret(deployment):
        volumes.append(_vault_volume(deployment))
        mounts.append({"name": VAULT, "mountPath": find_vault_folder(deployment), "readOnly": True})
    container = {
        "name": AGENT,
        "image": deployment.image,
        **_environment(deployment),
        **_agent_probes(deployment),
        **_resources(deployment),
        "securityContext": _container_security(),
        "volumeMounts": mounts,
    }
    spec = {
        **_pod_rules(deployment, math.ceil(deployment.grace_s + STOP_S), **_GROUP),
        **_spread(deployment),
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": pod_metadata(deployment, AGENT), "spec": spec}


def egress_template(deployment: Deployment) -> dict[str, Any]:
    """Return the template of the Pod that is the agent's way out."""
    limits = {"cpu": "500m", "memory": "128Mi"}
    container = {
        "name": EGRESS,
        "image": deployment.image,
        "command": ["kos-agent"],
        "args": ["sandbox", "egress", AGENT_FOLDER, "--listen", f"0.0.0.0:{EGRESS_PORT}"],
        **_egress_probes(deployment),
        "resources": {"requests": limits, "limits": limits},
        "securityContext": _container_security(),
    }
    spec = {**_pod_rules(deployment, STOP_S), "containers": [container]}
    return {"metadata": pod_metadata(deployment, EGRESS), "spec": spec}


def needs_secret(deployment: Deployment) -> bool:
    """Tell whether there is a folder of secrets: with the vault, or with a certificate and its key."""
    return deployment.vault is not None or deployment.has_tls


def find_vault_folder(deployment: Deployment) -> str:
    """Return where the secrets are in the container.

    Raises:
        DeployError: a mount there would hide the agent.
    """
    if deployment.vault is None:
        return f"{AGENT_FOLDER}/secrets"
    folder = str(PurePosixPath(deployment.vault).parent)
    if folder in {"/", AGENT_FOLDER}:
        raise DeployError(
            f"secrets.file is {deployment.vault}, and what is mounted is its folder: "
            "give it one of its own, such as secrets/vault.json"
        )
    return folder


def _pod_rules(deployment: Deployment, stop_s: int, **group: Any) -> dict[str, Any]:
    profile = deployment.settings.seccomp_profile
    seccomp: dict[str, str] = {"type": "RuntimeDefault"}
    if profile is not None:
        seccomp = {"type": "Localhost", "localhostProfile": profile}
    return {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": stop_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AGENT_ID,
            "runAsGroup": AGENT_ID,
            **group,
            "seccompProfile": seccomp,
        },
    }


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def _spread(deployment: Deployment) -> dict[str, Any]:
    settings = deployment.settings
    if settings.replicas == 1 and settings.max_replicas is None:
        return {}
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(deployment, AGENT)},
    }
    return {"topologySpreadConstraints": [constraint]}


def _environment(deployment: Deployment) -> dict[str, Any]:
    pairs = list(deployment.environment)
    if deployment.needs_proxy:
        upstream = f"{join(deployment.name, EGRESS)}:{EGRESS_PORT}"
        pairs.append(("AGENT_SANDBOX__NETWORK__UPSTREAM", upstream))
    return {"env": [{"name": name, "value": value} for name, value in pairs]} if pairs else {}


def _agent_probes(deployment: Deployment) -> dict[str, Any]:
    if deployment.settings.for_podman:
        # It asks over HTTP by curl, which the image has not, and from inside.
        ask: dict[str, Any] = {"exec": {"command": ["kos-agent", "health"]}}
        return {} if deployment.has_client_ca else {"livenessProbe": _liveness(ask)}
    if deployment.has_client_ca:
        why = comment(
            "The kubelet has no certificate to show: it can only see that the port is open."
        )
        live = ready = {**why, "tcpSocket": {"port": deployment.port}}
    else:
        live, ready = (_http(deployment, path) for path in ("/healthz", "/readyz"))
    return {
        "startupProbe": {**live, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60},
        "livenessProbe": _liveness(live),
        "readinessProbe": {
            **ready,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
    }


def _liveness(ask: dict[str, Any]) -> dict[str, Any]:
    return {
        **comment(
            "A worker that is stuck is replaced from inside: a minute is time enough for that."
        ),
        **ask,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }


def _http(deployment: Deployment, path: str) -> dict[str, Any]:
    scheme = {"scheme": "HTTPS"} if deployment.has_tls else {}
    return {"httpGet": {"path": path, "port": deployment.port, **scheme}}


def _egress_probes(deployment: Deployment) -> dict[str, Any]:
    if deployment.settings.for_podman:
        return {}
    ask = {"tcpSocket": {"port": EGRESS_PORT}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {"livenessProbe": ask, "readinessProbe": ask}


def _resources(deployment: Deployment) -> dict[str, Any]:
    limits = deployment.policy.limits
    amounts: dict[str, Any] = {}
    if limits.cpu_cores is not None:
        amounts["cpu"] = _cores(limits.cpu_cores)
    if limits.memory_bytes is not None:
        amounts["memory"] = quantity(limits.memory_bytes)
    if deployment.gpus:
        amounts["nvidia.com/gpu"] = deployment.gpus
    if not amounts:
        return {}
    why = comment("As much requested as allowed: such a Pod (Guaranteed) is evicted last.")
    return {"resources": {**why, "requests": amounts, "limits": amounts}}


def _cores(cores: float) -> str:
    thousandths = max(1, round(cores * 1000))
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _volume(deployment: Deployment, volume: Volume) -> dict[str, Any]:
    name = join(deployment.name, volume.name)
    if is_on_claim(volume):
        return {"name": name, "persistentVolumeClaim": {"claimName": name}}
    limit = quantity(deployment.settings.storage_bytes)
    why = comment("The log is on stdout too.") if volume.name == "logs" else {}
    return {"name": name, **why, "emptyDir": {"sizeLimit": limit}}


def _vault_volume(deployment: Deployment) -> dict[str, Any]:
    name = find_secret(deployment)
    if deployment.settings.for_podman:
        why = comment(
            "A volume of podman's: it would give a Secret to every user, or to root alone."
        )
        return {
            "name": VAULT,
            **why,
            "persistentVolumeClaim": {"claimName": name, "readOnly": True},
        }
    why = comment("0440, in decimal: root's, and readable by the group of fsGroup.")
    return {"name": VAULT, "secret": {"secretName": name, **why, "defaultMode": 0o440}}

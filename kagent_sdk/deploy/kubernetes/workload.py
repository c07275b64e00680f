"""What runs the Pods, keeps what they write, and scales, drains and watches them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent_sdk.deploy.kubernetes.documents import Document, comment
from kagent_sdk.deploy.kubernetes.names import (
    AGENT,
    EGRESS,
    REPLICAS,
    find_secret,
    join,
    metadata,
    selector,
)
from kagent_sdk.deploy.kubernetes.pod import (
    agent_template,
    egress_template,
    is_on_claim,
    quantity,
)

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment, Volume

BUSY_PERCENT = 70
"""Of its CPU: above it another replica is started, which takes a while."""

LEAVE_ONE_EVERY_S = 60
"""Scaling down: each has finished its tasks before the next one is asked to."""

TOKEN_KEY = "agent_token"  # noqa: S105 - the name of a key, not its value


def is_stateful(deployment: Deployment) -> bool:
    """Tell whether every replica has claims of its own."""
    settings = deployment.settings
    several = settings.replicas > 1 or settings.max_replicas is not None
    return several and any(map(is_on_claim, deployment.volumes))


def find_faults(deployment: Deployment) -> list[str]:
    """Return why settings and agent do not fit each other, a line each."""
    settings = deployment.settings
    faults = []
    if settings.max_replicas is not None and settings.max_replicas <= settings.replicas:
        faults.append(f"max_replicas should be over replicas, which is {settings.replicas}")
    if settings.max_replicas is not None and deployment.policy.limits.cpu_cores is None:
        faults.append("max_replicas scales by CPU: set sandbox.limits.cpu in config.yaml")
    if settings.for_podman and is_stateful(deployment):
        faults.append(
            "podman plays no StatefulSet: leave replicas at 1 without max_replicas, "
            "or set storage=ephemeral"
        )
    if settings.for_podman and "/" in (settings.seccomp_profile or ""):
        faults.append("podman looks for seccomp_profile in one folder: name a file, without /")
    return faults


def account(deployment: Deployment) -> Document:
    """Return the ServiceAccount: the agent's own, with no right and no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(deployment),
        "automountServiceAccountToken": False,
    }


def claims(deployment: Deployment) -> list[Document]:
    """Return the PersistentVolumeClaims of a single replica."""
    if is_stateful(deployment):
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(deployment, volume.name),
            "spec": _claim_spec(deployment),
        }
        for volume in deployment.volumes
        if is_on_claim(volume)
    ]


def workload(deployment: Deployment) -> Document:
    """Return the Deployment, or the StatefulSet where replicas have claims."""
    if is_stateful(deployment):
        return _stateful_set(deployment)
    on_claim = any(map(is_on_claim, deployment.volumes))
    if on_claim:
        why = comment(
            "runtime/journal.db has one owner: the old Pod goes before the new one comes."
        )
        strategy: dict[str, Any] = {**why, "type": "Recreate"}
    else:
        strategy = _ROLLING
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment),
        "spec": {
            **_replicas(deployment),
            "strategy": strategy,
            "selector": {"matchLabels": selector(deployment, AGENT)},
            "template": agent_template(deployment, has_own_claims=False),
        },
    }


def egress_workload(deployment: Deployment) -> Document:
    """Return the Deployment of the agent's way out."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(deployment, EGRESS, EGRESS),
        "spec": {
            "replicas": 1,
            "strategy": _ROLLING,
            "selector": {"matchLabels": selector(deployment, EGRESS)},
            "template": egress_template(deployment),
        },
    }


def disruption_budget(deployment: Deployment) -> Document:
    """Return how many Pods a drain of nodes may take at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(deployment),
        "spec": {
            **comment(
                "One at a time, a single one too: a drain must be able to end. The agent finishes its\n"
                "tasks first, and comes up elsewhere with its journal."
            ),
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(deployment, AGENT)},
        },
    }


def autoscaler(deployment: Deployment) -> Document:
    """Return the HorizontalPodAutoscaler."""
    settings = deployment.settings
    usage = {"type": "Utilization", "averageUtilization": BUSY_PERCENT}
    down = {"type": "Pods", "value": 1, "periodSeconds": LEAVE_ONE_EVERY_S}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(deployment),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet" if is_stateful(deployment) else "Deployment",
                "name": deployment.name,
            },
            "minReplicas": settings.replicas,
            "maxReplicas": settings.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": usage}}],
            "behavior": {"scaleDown": {"policies": [down]}},
        },
    }


def monitor(deployment: Deployment) -> Document:
    """Return the ServiceMonitor of the Prometheus Operator."""
    endpoint: dict[str, Any] = {
        "port": "https" if deployment.has_tls else "http",
        "scheme": "https" if deployment.has_tls else "http",
        "path": "/metrics",
    }
    if deployment.has_auth:
        endpoint["authorization"] = {
            **comment("The token once more, by itself: Prometheus does not read vault.json."),
            "credentials": {"name": find_secret(deployment), "key": TOKEN_KEY},
        }
    if deployment.has_tls:
        endpoint["tlsConfig"] = {
            **comment("Who signed the agent's certificate, and for which name it is."),
            "ca": {"secret": {"name": find_secret(deployment), "key": "ca.crt"}},
            "serverName": deployment.name,
        }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(deployment),
        "spec": {
            "selector": {"matchLabels": selector(deployment, AGENT)},
            "endpoints": [endpoint],
        },
    }


_ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _stateful_set(deployment: Deployment) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(deployment),
        "spec": {
            **_replicas(deployment),
            "serviceName": join(deployment.name, REPLICAS),
            **comment("Each is an agent by itself: none waits for another."),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector(deployment, AGENT)},
            **comment("A replica that comes back goes on with its journal."),
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "template": agent_template(deployment, has_own_claims=True),
            "volumeClaimTemplates": [
                _claim_template(deployment, volume)
                for volume in deployment.volumes
                if is_on_claim(volume)
            ],
        },
    }


def _claim_template(deployment: Deployment, volume: Volume) -> dict[str, Any]:
    name = join(deployment.name, volume.name)
    return {"metadata": {"name": name}, "spec": _claim_spec(deployment)}


def _claim_spec(deployment: Deployment) -> dict[str, Any]:
    settings = deployment.settings
    storage_class = {"storageClassName": settings.storage_class} if settings.storage_class else {}
    return {
        **comment("One Pod at a time. Storage without CSI knows ReadWriteOnce alone."),
        "accessModes": ["ReadWriteOncePod"],
        **storage_class,
        "resources": {"requests": {"storage": quantity(settings.storage_bytes)}},
    }


def _replicas(deployment: Deployment) -> dict[str, Any]:
    if deployment.settings.max_replicas is not None:
        return comment("How many there are is the autoscaler's to say.")
    return {"replicas": deployment.settings.replicas}

"""Who reaches the agent and whom it reaches: Services and NetworkPolicies. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kagent_sdk.deploy.kubernetes.documents import Document, comment
from kagent_sdk.deploy.kubernetes.names import (
    AGENT,
    EGRESS,
    MESH,
    REPLICAS,
    metadata,
    selector,
)
from kagent_sdk.deploy.kubernetes.pod import EGRESS_PORT
from kagent_sdk.sandbox.policy import Destination

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

PRIVATE_IPV4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
"""What is not the internet (RFC 6890, RFC 1112)."""

GLOBAL_IPV6 = "2000::/3"
"""All that is handed out of it is global unicast (RFC 4291 2.4)."""

METADATA_IPV4, METADATA_IPV6 = "169.254.169.254/32", "fd00:ec2::254/128"
"""Where clouds give a node's credentials to whoever asks."""

DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def agent_service(deployment: Deployment) -> Document:
    """Return the Service before all replicas."""
    settings = deployment.settings
    several = settings.replicas > 1 or settings.max_replicas is not None
    affinity = comment("A task is known to the replica that took it: a caller stays with one.")
    return {
        **_head("Service", "v1", metadata(deployment)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(deployment, AGENT),
            **({**affinity, "sessionAffinity": "ClientIP"} if several else {}),
            "ports": [_port(deployment)],
        },
    }


def replicas_service(deployment: Deployment) -> Document:
    """Return the Service that gives every replica a name, such as ``shop-0.shop-replicas``."""
    return {
        **_head("Service", "v1", metadata(deployment, REPLICAS, REPLICAS)),
        "spec": {
            "clusterIP": "None",
            "selector": selector(deployment, AGENT),
            "ports": [_port(deployment)],
        },
    }


def egress_service(deployment: Deployment) -> Document:
    """Return the Service of the agent's way out."""
    port = {"name": "proxy", "port": EGRESS_PORT, "targetPort": EGRESS_PORT, "protocol": "TCP"}
    return {
        **_head("Service", "v1", metadata(deployment, EGRESS, EGRESS)),
        "spec": {"selector": selector(deployment, EGRESS), "ports": [port]},
    }


def deny_policy(deployment: Deployment, component: str) -> Document:
    """Return the NetworkPolicy that closes the Pods of a component, both ways."""
    suffix = "deny" if component == AGENT else f"{component}-deny"
    return {
        **_head("NetworkPolicy", NETWORKING, metadata(deployment, suffix, component)),
        "spec": {
            "podSelector": {"matchLabels": selector(deployment, component)},
            **comment("Nothing, but for what other policies allow."),
            "policyTypes": ["Ingress", "Egress"],
        },
    }


def agent_policy(deployment: Deployment) -> Document:
    """Return what the agent's Pods may: be called, call others of the mesh, use the way out."""
    port = [{"protocol": "TCP", "port": deployment.port}]
    callers: list[dict[str, Any]] = [
        {**comment("Of this namespace, and of the mesh in any."), "podSelector": {}},
        _mesh(),
    ]
    if deployment.settings.monitoring:
        prometheus = {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
        callers.append({"namespaceSelector": {}, "podSelector": prometheus})
    return {
        **_head("NetworkPolicy", NETWORKING, metadata(deployment)),
        "spec": {
            "podSelector": {"matchLabels": selector(deployment, AGENT)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": callers, "ports": port}],
            "egress": _ways_out(deployment),
        },
    }


def egress_policy(deployment: Deployment) -> Document:
    """Return what the way out may: be used by the agent alone, and connect to the internet."""
    agent = {"podSelector": {"matchLabels": selector(deployment, AGENT)}}
    ports = sorted({one.port for one in deployment.policy.network.allow})
    internet: list[dict[str, Any]] = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE_IPV4)}},
        {"ipBlock": {"cidr": GLOBAL_IPV6}},
    ]
    return {
        **_head("NetworkPolicy", NETWORKING, metadata(deployment, EGRESS, EGRESS)),
        "spec": {
            "podSelector": {"matchLabels": selector(deployment, EGRESS)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [agent], "ports": [{"protocol": "TCP", "port": EGRESS_PORT}]}],
            "egress": [
                DNS,
                {
                    **comment(
                        "The names are the proxy's to check: a policy knows addresses alone."
                    ),
                    "to": internet,
                    "ports": [{"protocol": "TCP", "port": port} for port in ports],
                },
            ],
        },
    }


NETWORKING = "networking.k8s.io/v1"


def _ways_out(deployment: Deployment) -> list[Any]:
    ways: list[Any] = [DNS, {"to": [_mesh()]}]
    if deployment.policy.network.external:
        ways.append({**comment(_EXTERNAL), "to": _anywhere()})
    if deployment.needs_proxy:
        proxy = {"podSelector": {"matchLabels": selector(deployment, EGRESS)}}
        ways.append({"to": [proxy], "ports": [{"protocol": "TCP", "port": EGRESS_PORT}]})
        ways += _private_ways(deployment.policy.network.allow)
    return ways


_EXTERNAL = "sandbox.network.external: anywhere, but for the credentials of the node."


def _anywhere() -> list[dict[str, Any]]:
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [METADATA_IPV4]}},
        {"ipBlock": {"cidr": "::/0", "except": [METADATA_IPV6]}},
        {"namespaceSelector": {}},
    ]


def _private_ways(allow: Sequence[Destination]) -> list[Any]:
    """Return rules for private addresses of the allow-list: the agent's own proxy dials them."""
    ways = []
    for one in allow:
        try:
            address = ipaddress.ip_address(one.host)
        except ValueError:
            continue
        if not address.is_global:
            block = {"cidr": f"{address}/{address.max_prefixlen}"}
            port = {"protocol": "TCP", "port": one.port}
            ways.append({"to": [{"ipBlock": block}], "ports": [port]})
    return ways


def _mesh() -> dict[str, Any]:
    return {"namespaceSelector": {}, "podSelector": {"matchLabels": MESH}}


def _port(deployment: Deployment) -> dict[str, Any]:
    scheme = "https" if deployment.has_tls else "http"
    number = deployment.port
    return {"name": scheme, "port": number, "targetPort": number, "protocol": "TCP"}


def _head(kind: str, version: str, about: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": about}

"""Every manifest is one that Kubernetes takes: by its own published schemas, strictly."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.unit.deploy.kubernetes.manifests import ALLOWING, EXTERNAL, TLS, documents

OLDEST, NEWEST = "1.30", "1.37"
"""Releases of Kubernetes that the manifests are for."""

UNKNOWN = {"ServiceMonitor"}
"""No part of Kubernetes: the Prometheus Operator brings it."""

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "allow-list": (ALLOWING, {}),
    "private addresses": (
        {"sandbox": {"network": {"allow": ["10.1.2.3:5432", "[fd00::1]:80", "8.8.8.8:53"]}}},
        {},
    ),
    "external": (EXTERNAL, {}),
    "tls": (TLS, {}),
    "client certificates": ({"http": {"tls": {**TLS["http"]["tls"], "client_ca": "ca"}}}, {}),
    "gpu": ({"limits": {"gpus": 2}}, {}),
    "no limits": ({"sandbox": {"limits": {"cpu": None, "memory_bytes": None}}}, {}),
    "no vault": ({"http": {"auth": "none"}}, {}),
    "ephemeral, scaled": ({}, {"storage": "ephemeral", "max_replicas": 3}),
    "replicas": ({}, {"replicas": 3, "storage_class": "fast", "namespace": "agents"}),
    "replicas, scaled": (ALLOWING, {"replicas": 2, "max_replicas": 9}),
    "monitoring": ({}, {"monitoring": True}),
    "monitoring, tls": (TLS, {"monitoring": True}),
    "seccomp": ({}, {"seccomp_profile": "kos/shop.json"}),
    "volumes": ({"sandbox": {"write": ["models", "/srv/data"]}}, {}),
    "podman": (ALLOWING, {"for_podman": True, "seccomp_profile": "seccomp.json"}),
}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(("config", "settings"), CASES.values(), ids=CASES)
def test_kubernetes_takes_every_document(
    config: dict[str, Any], settings: dict[str, Any], version: str
) -> None:
    """An unknown field is dropped in silence, and with it what it should have held."""
    found = documents(config, **settings)
    known = [document for document in found.values() if document["kind"] not in UNKNOWN]

    assert known
    for document in known:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_check_would_find_an_unknown_field() -> None:
    """A validator that takes everything proves nothing."""
    document = documents()["Deployment/shop"]
    document["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True

    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(document, NEWEST, strict=True)

"""Deployment or StatefulSet, and what scales, drains and watches it."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.errors import DeployError
from tests.unit.deploy.kubernetes.manifests import ALLOWING, TLS, documents, export, pod

SCALED = {"replicas": 2, "max_replicas": 5}


def test_the_default_is_one_pod_that_goes_before_the_next_comes() -> None:
    """Its journal has one owner."""
    found = documents()

    assert list(found) == [
        "ServiceAccount/shop",
        "NetworkPolicy/shop-deny",
        "NetworkPolicy/shop",
        "PersistentVolumeClaim/shop-runtime",
        "Service/shop",
        "Deployment/shop",
        "PodDisruptionBudget/shop",
    ]
    spec = found["Deployment/shop"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert found["PersistentVolumeClaim/shop-runtime"]["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "resources": {"requests": {"storage": "1Gi"}},
    }


def test_the_same_deployment_is_the_same_bytes() -> None:
    """A diff of two exports shows what changed in between."""
    assert export(ALLOWING, monitoring=True) == export(ALLOWING, monitoring=True)


def test_what_is_written_is_on_claims_and_the_log_is_not() -> None:
    """It is on stdout too, where a cluster collects it."""
    volumes = {
        volume["name"]: volume for volume in pod({"sandbox": {"write": ["models"]}})["volumes"]
    }

    assert volumes["shop-runtime"]["persistentVolumeClaim"] == {"claimName": "shop-runtime"}
    assert volumes["shop-data-1"]["persistentVolumeClaim"] == {"claimName": "shop-data-1"}
    assert volumes["shop-logs"]["emptyDir"] == {"sizeLimit": "1Gi"}


def test_replicas_with_a_journal_have_claims_of_their_own() -> None:
    """Two of them on one claim would not start."""
    found = documents(replicas=3, storage_class="fast")
    spec = found["StatefulSet/shop"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]

    assert claim["metadata"]["name"] == "shop-runtime"
    assert claim["spec"]["storageClassName"] == "fast"
    assert spec["replicas"] == 3
    assert spec["podManagementPolicy"] == "Parallel"
    assert found[f"Service/{spec['serviceName']}"]["spec"]["clusterIP"] == "None"
    assert found["Service/shop"]["spec"]["sessionAffinity"] == "ClientIP"
    assert not any(key.startswith("PersistentVolumeClaim/") for key in found)
    names = [volume["name"] for volume in spec["template"]["spec"]["volumes"]]
    assert names == ["shop-logs", "vault"]


def test_replicas_without_a_journal_roll_over() -> None:
    """Nothing is lost with the old one, so that a new one may come first."""
    found = documents(replicas=2, storage="ephemeral")
    spec = found["Deployment/shop"]["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["template"]["spec"]["topologySpreadConstraints"]
    assert spec["template"]["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "1Gi"}
    assert "Service/shop-replicas" not in found


@pytest.mark.parametrize(
    ("settings", "kind"),
    [(SCALED, "StatefulSet"), ({**SCALED, "storage": "ephemeral"}, "Deployment")],
)
def test_the_autoscaler_says_how_many_there_are(settings: dict[str, Any], kind: str) -> None:
    """A number in the manifest would undo what it did, with each apply."""
    found = documents(**settings)
    spec = found["HorizontalPodAutoscaler/shop"]["spec"]

    assert "replicas" not in found[f"{kind}/shop"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"]["kind"] == kind


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({}, {"replicas": 3, "max_replicas": 3}, "max_replicas should be over replicas"),
        ({"sandbox": {"limits": {"cpu": None}}}, {"max_replicas": 3}, "set sandbox.limits.cpu"),
        ({}, {"replicas": 2, "for_podman": True}, "podman plays no StatefulSet"),
        ({}, {"for_podman": True, "seccomp_profile": "a/b"}, "podman looks for seccomp_profile"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    config: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    """The cluster would take it, and nothing would scale."""
    with pytest.raises(DeployError, match=message):
        export(config, **settings)


@pytest.mark.parametrize("settings", [{}, {"replicas": 3}])
def test_a_drain_of_nodes_ends(settings: dict[str, Any]) -> None:
    """minAvailable: 1 of a single Pod would block it for ever."""
    spec = documents(**settings)["PodDisruptionBudget/shop"]["spec"]

    assert spec["maxUnavailable"] == 1
    assert "minAvailable" not in spec


def test_prometheus_is_given_the_token_by_its_name() -> None:
    """And is let in."""
    found = documents(TLS, monitoring=True)
    (endpoint,) = found["ServiceMonitor/shop"]["spec"]["endpoints"]
    callers = found["NetworkPolicy/shop"]["spec"]["ingress"][0]["from"]

    assert endpoint["authorization"]["credentials"] == {"name": "shop-vault", "key": "agent_token"}
    assert endpoint["port"] == endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] == "shop"
    assert "prometheus" in str(callers[-1])


def test_an_open_agent_is_scraped_without_a_token() -> None:
    """There is none."""
    found = documents({"http": {"auth": "none"}}, monitoring=True)
    (endpoint,) = found["ServiceMonitor/shop"]["spec"]["endpoints"]

    assert endpoint == {"port": "http", "scheme": "http", "path": "/metrics"}


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_monitor_finds_one_service(replicas: int) -> None:
    """By two, every replica would be counted twice."""
    found = documents(monitoring=True, replicas=replicas)
    wanted = found["ServiceMonitor/shop"]["spec"]["selector"]["matchLabels"].items()
    services = [one for one in found.values() if one["kind"] == "Service"]

    assert len([one for one in services if wanted <= one["metadata"]["labels"].items()]) == 1


def test_a_namespace_is_on_every_document_and_is_not_made() -> None:
    """Deleting the manifest would delete it, with all that others have in it."""
    found = documents({**ALLOWING}, namespace="agents", monitoring=True)

    assert {document["metadata"]["namespace"] for document in found.values()} == {"agents"}
    assert not any(key.startswith("Namespace/") for key in found)

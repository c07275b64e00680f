"""The agent's Pod: locked down, bounded, asked how it is, and given what it needs alone."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.deploy.kubernetes.pod import quantity
from kagent_sdk.errors import DeployError
from tests.unit.deploy.kubernetes.manifests import ALLOWING, TLS, container, documents, export, pod


@pytest.mark.parametrize("name", ["shop", "shop-egress"])
def test_all_pods_are_restricted(name: str) -> None:
    """A namespace that enforces `restricted` takes them, and nothing more is open than it asks."""
    spec = documents(ALLOWING)[f"Deployment/{name}"]["spec"]["template"]["spec"]
    (one,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def test_a_profile_of_the_node_takes_the_place_of_the_runtimes() -> None:
    """The agent's own is tighter, but has to be there."""
    rendering = export(seccomp_profile="kos/shop.json")

    assert pod(seccomp_profile="kos/shop.json")["securityContext"]["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "kos/shop.json",
    }
    assert any("/var/lib/kubelet/seccomp/kos/shop.json" in note for note in rendering.notes)


def test_as_much_is_requested_as_allowed() -> None:
    """Such a Pod is evicted last."""
    limits = {"cpu": 0.5, "memory_bytes": 768 * 1024 * 1024}
    found = container({"sandbox": {"limits": limits}, "limits": {"gpus": 2}})["resources"]

    assert found["limits"] == {"cpu": "500m", "memory": "768Mi", "nvidia.com/gpu": 2}
    assert found["requests"] == found["limits"]


def test_an_agent_without_limits_has_none() -> None:
    """What the policy leaves open is the cluster's to say."""
    assert "resources" not in container(
        {"sandbox": {"limits": {"cpu": None, "memory_bytes": None}}}
    )


@pytest.mark.parametrize(
    ("count", "text"), [(1 << 30, "1Gi"), (3 << 20, "3Mi"), (5 << 10, "5Ki"), (1001, "1001")]
)
def test_bytes_are_written_as_kubernetes_does(count: int, text: str) -> None:
    """1073741824 is read by machines alone."""
    assert quantity(count) == text


def test_the_kubelet_asks_the_host_and_leaves_it_time() -> None:
    """The agent replaces a stuck worker itself: a restart of the Pod would lose what others do."""
    found = container()
    live, ready = found["livenessProbe"], found["readinessProbe"]

    assert live["httpGet"] == {"path": "/healthz", "port": 8080}
    assert found["startupProbe"]["httpGet"] == live["httpGet"]
    assert ready["httpGet"]["path"] == "/readyz"
    assert live["periodSeconds"] * live["failureThreshold"] >= 60


def test_probes_speak_https_with_who_does() -> None:
    """Over plain HTTP such an agent would be restarted for ever."""
    assert container(TLS)["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_an_agent_that_asks_for_certificates_is_asked_for_its_port_alone() -> None:
    """The kubelet has none to show."""
    tls = {**TLS["http"]["tls"], "client_ca": "secrets/ca.crt"}
    found = container({"http": {"tls": tls}})

    assert found["livenessProbe"]["tcpSocket"] == {"port": 8080}
    assert "httpGet" not in found["startupProbe"] | found["readinessProbe"]
    assert "livenessProbe" not in container({"http": {"tls": tls}}, for_podman=True)


def test_the_kill_comes_after_the_agents_own_grace() -> None:
    """Results that were ready would be lost."""
    assert pod({"shutdown": {"grace_s": 40.2}})["terminationGracePeriodSeconds"] == 46


def test_the_vault_is_mounted_for_the_group_alone() -> None:
    """The host refuses one that is open to every user; root owns it, so the agent cannot change it."""
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}

    assert volumes["vault"]["secret"] == {"secretName": "shop-vault", "defaultMode": 0o440}
    assert mounts["vault"] == {"name": "vault", "mountPath": "/agent/secrets", "readOnly": True}
    assert pod()["securityContext"]["fsGroup"] == 1000


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        ({}, {}, ["shop-vault", "vault.json", "kubectl create secret generic"]),
        ({}, {"namespace": "agents", "vault": "keys"}, ["generic keys --namespace agents"]),
        (TLS, {"monitoring": True}, ["vault.json, the files of http.tls, agent_token and ca.crt"]),
        ({}, {"for_podman": True}, ["podman volume import shop-vault"]),
    ],
)
def test_a_secret_is_named_and_never_written(
    config: dict[str, Any], settings: dict[str, Any], words: list[str]
) -> None:
    """A manifest is kept in a repository; how to make the Secret stands above it."""
    rendering = export(config, **settings)

    assert not any(key.startswith("Secret/") for key in documents(config, **settings))
    for word in words:
        assert word in rendering.files[rendering.main].partition("apiVersion")[0]
        assert any(word in note for note in rendering.notes)


def test_who_needs_no_vault_has_none() -> None:
    """A Pod waits for ever for a Secret that nobody made."""
    config = {"http": {"auth": "none"}}

    assert [volume["name"] for volume in pod(config)["volumes"]] == ["shop-runtime", "shop-logs"]
    assert export(config).notes == ()


def test_certificates_are_secrets_too() -> None:
    """Without a vault they still have to come from somewhere."""
    volumes = pod({"http": {**TLS["http"], "auth": "none"}})["volumes"]

    assert [volume["name"] for volume in volumes][-1] == "vault"


@pytest.mark.parametrize("file", ["vault.json", "/vault.json"])
def test_a_vault_beside_the_code_cannot_be_mounted(file: str) -> None:
    """The mount would hide the agent, or everything."""
    with pytest.raises(DeployError, match="give it one of its own"):
        export({"secrets": {"file": file}})


@pytest.mark.parametrize("name", ["My Secret", "-x", "a" * 254, "a\nb: c"])
def test_a_wrong_name_of_a_secret_is_refused(name: str) -> None:
    """Kubernetes would refuse the Pod, later and elsewhere."""
    with pytest.raises(DeployError, match="no name of a Secret"):
        export(vault=name)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", "x y"])
def test_a_wrong_place_of_a_profile_is_refused(path: str) -> None:
    """It is below the kubelet's folder, and nowhere else."""
    with pytest.raises(ValueError, match="seccomp_profile"):
        export(seccomp_profile=path)


def test_names_are_cut_so_that_kubernetes_takes_them() -> None:
    """A name of 63 characters leaves no room for a suffix."""
    found = documents({**ALLOWING, "name": "a" * 63})

    assert f"Service/{'a' * 56}-egress" in found
    assert all(len(document["metadata"]["name"]) <= 63 for document in found.values())


def test_the_version_is_a_label_where_it_can_be_one() -> None:
    """`1.0+build 7` is none."""
    key = "app.kubernetes.io/version"

    assert documents({"version": "1.0+build 7"})["Service/shop"]["metadata"]["labels"][key] == (
        "1.0-build-7"
    )
    assert key not in documents({"version": "+"})["Service/shop"]["metadata"]["labels"]


def test_the_environment_is_the_policys() -> None:
    """Namespaces in namespaces would need what the Pod has not."""
    found = container({"worker": {"isolation": "bwrap"}, **ALLOWING})["env"]

    assert found == [
        {"name": "AGENT_WORKER__ISOLATION", "value": "process"},
        {"name": "AGENT_SANDBOX__NETWORK__UPSTREAM", "value": "shop-egress:3128"},
    ]
    assert "env" not in container()


def test_podman_gets_what_it_plays() -> None:
    """It has no curl in the image for a probe, and no group for a Secret."""
    settings = {"for_podman": True, "seccomp_profile": "seccomp.json"}
    found = documents(ALLOWING, **settings)
    template = found["Deployment/shop"]["spec"]["template"]
    (one,) = template["spec"]["containers"]
    key = "container.seccomp.security.alpha.kubernetes.io/agent"

    assert one["livenessProbe"]["exec"] == {"command": ["kos-agent", "health"]}
    assert not {"startupProbe", "readinessProbe"} & one.keys()
    assert template["spec"]["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "shop-vault"
    assert template["metadata"]["annotations"][key] == "localhost/seccomp.json"
    (way_out,) = found["Deployment/shop-egress"]["spec"]["template"]["spec"]["containers"]
    assert "livenessProbe" not in way_out


def test_no_port_is_declared() -> None:
    """It would tell nothing new, and podman would open it on the machine."""
    assert "ports" not in container()

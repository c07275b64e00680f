"""What is compared at all: which file is read as what, and which of its containers count."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.check import REFUSED, check, kind_of
from kagent_sdk.deploy.rendering import TARGETS
from kagent_sdk.deploy.seccomp import profile_text
from kagent_sdk.errors import DeployError
from tests.unit.deploy.lockdown.manifests import (
    COMPOSE,
    DOCKER_RUN,
    GOOD,
    PROXIED,
    QUADLET,
    as_yaml,
    beside,
    container,
    deployment,
    kubernetes,
    pod_template,
    workload,
)

WANTED = deployment(PROXIED)


def found(target: str, text: str, wanted: Deployment = WANTED) -> list[tuple[str, str]]:
    """Return control and place of each finding."""
    return [(one.control, one.where) for one in check(target, text, wanted, beside)]


def test_every_target_is_compared_or_refused_with_a_reason() -> None:
    """A new target must not fall through."""
    for target in TARGETS:
        try:
            check(target, "{}", WANTED)
        except DeployError as exc:
            assert (target in REFUSED) == (str(exc) == REFUSED.get(target))  # noqa: PT017 - either way


def test_a_target_that_is_unknown_is_told() -> None:
    """The command has looked it up before; whoever calls from Python has not."""
    with pytest.raises(DeployError, match="manifests of helm are not compared; of compose"):
        check("helm", "{}", WANTED)


@pytest.mark.parametrize("target", GOOD)
@pytest.mark.parametrize("other", GOOD)
def test_a_manifest_of_another_kind_is_told_with_the_kind_that_fits(
    target: str, other: str
) -> None:
    """The wrong word on the command line must not look like a broken file."""
    if target == other:
        assert kind_of(GOOD[target]) == target
        return
    with pytest.raises(DeployError, match=f"no manifest for {target}; it is like one for {other}"):
        check(target, GOOD[other], WANTED)


def test_a_seccomp_profile_is_known_by_its_looks() -> None:
    """It is JSON, which is YAML too."""
    assert kind_of(profile_text(WANTED)) == "seccomp"
    assert kind_of("just: words") is None
    assert kind_of("[") is None


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        ("compose", "a: 1", "there are no services in it"),
        ("compose", "", "a compose file is one document; this has 0"),
        ("compose", "services: {digest: x}", "services.digest .line 1. should be a mapping"),
        ("compose", "services: {a: {image: x}, b: {image: y}}", "none of a, b has the image digest:1.2.0"),
        ("kubernetes", "a: 1", "there is no Pod in it"),
        ("kubernetes", as_yaml([workload("x", {})]), "Deployment/x has no containers"),
        ("docker-run", "echo", "no podman run or docker run"),
        ("docker-run", "podman run -d", "line 1: there is no image behind run"),
        ("docker-run", "x" * 1_100_000, "over 1048576 bytes"),
        ("quadlet", "[Unit]", "no .Container. in it"),
        ("quadlet", "[Container]\nwhat", "line 2: neither a"),
        ("quadlet", "[Container]\nExec='", "a quote is never closed"),
        ("quadlet", "\n" * 20_001, "20000 lines"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_clear_error(target: str, text: str, message: str) -> None:
    """The exit code of these is 2, so that no script takes them for a verdict."""
    with pytest.raises(DeployError, match=message):
        check(target, text, WANTED)


def test_the_only_service_is_the_agent_whatever_it_is_called() -> None:
    """A folder's name is not always the service's."""
    text = yaml.safe_dump({"services": {"app": {"image": "registry/app:1", "privileged": True}}})

    assert ("privileged", "services.app.privileged (line 4)") in found("compose", text)


def test_a_label_says_whose_a_service_is() -> None:
    """Several agents of one image may stand in one file."""
    document = yaml.safe_load(COMPOSE)
    document["services"]["other"] = {
        "image": "digest:1.2.0",
        "labels": ["io.kos.agent=other"],
        "privileged": True,
    }

    assert found("compose", yaml.safe_dump(document)) == []


def test_an_egress_proxy_alone_is_no_verdict() -> None:
    """Whoever has labelled the wrong service must not be told that all is well."""
    document = yaml.safe_load(COMPOSE)
    del document["services"]["digest"]

    with pytest.raises(DeployError, match="the egress proxy is in it, and the agent is not"):
        check("compose", yaml.safe_dump(document), WANTED)


def test_the_egress_proxy_is_held_to_the_same() -> None:
    """It is the one container that reaches outside."""
    document = yaml.safe_load(COMPOSE)
    document["services"]["digest-egress"] |= {
        "read_only": False,
        "volumes": ["./secrets:/agent/secrets"],
        "ports": ["3128:3128"],
        "mem_limit": None,
    }

    controls = {control for control, _ in found("compose", yaml.safe_dump(document))}
    assert controls == {"read_only_root", "files", "ports", "cgroup"}


def test_without_an_allow_list_nothing_may_lead_out() -> None:
    """A proxy that the policy does not have is a container like any other."""
    plain = deployment({"name": "digest"}, image="digest:1.2.0")

    assert ("egress", "services.digest-egress.networks[1] (line 42)") in found(
        "compose", COMPOSE, plain
    )


def test_the_seccomp_profile_beside_a_manifest_is_compared_too() -> None:
    """The right line with the wrong file behind it is as good as none."""
    profile = json.loads(profile_text(WANTED))
    profile["defaultAction"] = "SCMP_ACT_ALLOW"
    files = {"seccomp.json": json.dumps(profile)}

    assert [one.where for one in check("compose", COMPOSE, WANTED, files.get)] == [
        "seccomp.json: defaultAction"
    ]
    with pytest.raises(DeployError, match="beside it: line 1: this is no JSON"):
        check("compose", COMPOSE, WANTED, {"seccomp.json": "x"}.get)


@pytest.mark.parametrize(
    ("text", "control"),
    [("[Network]\nDriver=bridge\n", "egress"), ("[Network]\nInternal=false\n", "egress"), ("[Network]\nInternal=yes\n", None)],
)  # fmt: skip
def test_the_network_unit_beside_a_quadlet_decides(text: str, control: str | None) -> None:
    """A container's unit names a network; what it is stands in another file."""
    loosenings = check("quadlet", QUADLET, WANTED, {"digest-private.network": text}.get)

    assert [one.control for one in loosenings] == ([control] if control else [])


@pytest.mark.parametrize("kind", ["DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"])
def test_pods_are_found_in_whatever_makes_them(kind: str) -> None:
    """A looser Pod is no better for being a Job's."""
    documents = kubernetes()
    documents[0]["kind"] = kind

    assert found("kubernetes", as_yaml(documents)) == []
    documents[0]["spec"]["template"]["spec"]["hostPID"] = True
    place = f"{kind}/digest spec.hostPID (line 95)"
    assert [control for control, where in found("kubernetes", as_yaml(documents))] == ["namespaces"]
    assert place.rpartition(" (")[0] in found("kubernetes", as_yaml(documents))[0][1]


def test_pods_by_themselves_of_cron_jobs_and_in_lists_are_found() -> None:
    """People write Pods, and kubectl writes lists."""
    template = pod_template()
    del template["spec"]["automountServiceAccountToken"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "digest"}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "digest"},
        "spec": {"jobTemplate": {"spec": {"template": template}}},
    }
    policies = kubernetes()[3:]

    for documents in (
        [pod, *policies],
        [cron, *policies],
        [{"apiVersion": "v1", "kind": "List", "items": [pod]}, *policies],
    ):
        assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["exposure"]


def test_what_the_standard_and_the_policy_both_refuse_is_told_once() -> None:
    """Each line of a report is one line to change."""
    documents = kubernetes()
    spec = documents[0]["spec"]["template"]["spec"]
    spec["containers"][0]["securityContext"]["privileged"] = True

    assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["privileged"]


def test_a_finding_has_the_line_of_its_field() -> None:
    """A hundred lines of YAML are searched for nobody's pleasure."""
    text = yaml.safe_dump_all(kubernetes(), sort_keys=False)
    loosened = text.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", 1)
    line = loosened[: loosened.index("allowPrivilegeEscalation: true")].count("\n") + 1

    ((control, where),) = found("kubernetes", loosened)
    assert control == "no_new_privileges"
    assert where == (
        f"Deployment/digest spec.containers[0].securityContext.allowPrivilegeEscalation (line {line})"
    )


@pytest.mark.parametrize(
    "peer",
    [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"namespaceSelector": {}}, {"podSelector": {}}, {}],
)
def test_a_network_policy_that_is_wider_than_the_policy_is_found(peer: dict[str, object]) -> None:
    """The whole cluster is a way out too."""
    documents = kubernetes()
    documents[3]["spec"]["egress"].append({"to": [peer]})

    ((control, where),) = found("kubernetes", as_yaml(documents))
    assert control == "egress"
    assert where.startswith("NetworkPolicy/digest spec.egress[2] (line ")


def test_addresses_of_the_allow_list_may_be_reached_directly() -> None:
    """The agent's own proxy dials private ones; that they are allowed is the policy's word."""
    config = {**PROXIED, "sandbox": {"network": {"allow": ["10.1.2.3:5432", "a.example.com:443"]}}}
    documents = kubernetes()
    documents[3]["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]})

    assert found("kubernetes", as_yaml(documents), deployment(config)) == []


def test_policies_of_other_pods_and_namespaces_count_for_nothing() -> None:
    """A NetworkPolicy that selects nobody is a comment."""
    changes: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": {"app": "other"}}},
        {"podSelector": {"matchExpressions": []}},
        {"policyTypes": ["Ingress"], "egress": None},
    ]
    for change in changes:
        documents = kubernetes()
        documents[3]["spec"] |= change
        assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["egress"]
    documents = kubernetes()
    documents[3]["metadata"]["namespace"] = "elsewhere"
    assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["egress"]


def test_what_gives_the_agent_to_others_is_found() -> None:
    """A projected token and an address outside are doors, whatever else is closed."""
    documents = kubernetes()
    spec = documents[0]["spec"]["template"]["spec"]
    spec["volumes"].append(
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {}}]}}
    )
    documents[2]["spec"]["externalIPs"] = ["192.0.2.1"]

    assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["exposure"] * 2


def test_volumes_of_a_stateful_set_are_known() -> None:
    """Its claims stand beside the template, not in it."""
    documents = kubernetes()
    documents[0]["kind"] = "StatefulSet"
    spec = documents[0]["spec"]
    spec["template"]["spec"]["volumes"] = spec["template"]["spec"]["volumes"][1:]
    spec["volumeClaimTemplates"] = [{"metadata": {"name": "runtime"}}]

    assert found("kubernetes", as_yaml(documents)) == []


def test_what_kubernetes_mounts_read_only_is_no_place_to_write() -> None:
    """A ConfigMap beside the agent's files gives it nothing that the cluster has not written."""
    documents = kubernetes()
    spec = documents[0]["spec"]["template"]["spec"]
    spec["volumes"].append({"name": "more", "configMap": {"name": "more"}})
    spec["containers"][0]["volumeMounts"].append({"name": "more", "mountPath": "/srv/more"})

    assert found("kubernetes", as_yaml(documents)) == []


def test_a_sidecar_is_asked_what_every_container_is_asked() -> None:
    """It shares the agent's network; its limits and files are its own matter."""
    documents = kubernetes()
    containers = documents[0]["spec"]["template"]["spec"]["containers"]
    sidecar = container("logs", image="logs:3", command=["tail"])
    del sidecar["resources"], sidecar["livenessProbe"]
    containers.append(sidecar)

    assert found("kubernetes", as_yaml(documents)) == []
    del sidecar["securityContext"]["readOnlyRootFilesystem"]
    assert [control for control, _ in found("kubernetes", as_yaml(documents))] == ["read_only_root"]


def test_a_port_may_be_shown_where_the_settings_say_so() -> None:
    """--set publish is the environment's word."""
    document = yaml.safe_load(COMPOSE)
    service = document["services"]["digest"]
    wanted = deployment(PROXIED, publish="192.0.2.1:9000")

    for ports, count in (
        (["192.0.2.1:9000:8080"], 0),
        (["127.0.0.1:9000:8080"], 0),
        (["9000:8080"], 1),
        (["127.0.0.1:9001:8080"], 1),
        (["127.0.0.1:9000:22"], 1),
        ([":"], 2),
    ):
        service["ports"] = ports
        assert len(found("compose", yaml.safe_dump(document), wanted)) == count


def test_gpus_are_counted() -> None:
    """Two were asked for; all of them is more."""
    wanted = deployment({**PROXIED, "limits": {"gpus": 2}})
    document = yaml.safe_load(COMPOSE)
    service = document["services"]["digest"]
    requests: list[tuple[dict[str, object], int]] = [
        ({"capabilities": ["gpu"], "count": 2}, 0),
        ({"capabilities": [["gpu"]], "device_ids": ["0", "1"]}, 1),
        ({"capabilities": ["gpu"], "device_ids": ["0", "1"]}, 0),
        ({"capabilities": ["gpu"], "count": 3}, 1),
        ({"capabilities": ["tpu"], "driver": "x"}, 1),
    ]
    for request, count in requests:
        service["deploy"] = {"resources": {"reservations": {"devices": [request]}}}
        assert len(found("compose", yaml.safe_dump(document), wanted)) == count
    del service["deploy"]
    service["gpus"] = [{"driver": "nvidia", "count": 2}]
    service["devices"] = ["nvidia.com/gpu=0", {"source": "/dev/nvidia0"}]
    assert found("compose", yaml.safe_dump(document), wanted) == []


def test_a_value_is_never_shown_where_it_may_be_a_secret() -> None:
    """Reports end in tickets and logs of builds."""
    script = DOCKER_RUN.replace(
        '"$@" "$image"', '"$@" --magic=s3cret -e AGENT_SECRETS__X=s3cret "$image"'
    )

    loosenings = check("docker-run", script, WANTED)
    assert {one.control for one in loosenings} == {"not_understood", "environment"}
    assert not any("s3cret" in str(one) for one in loosenings)


def test_critical_findings_come_first_and_each_once() -> None:
    """What is worst is read, whatever is not."""
    loosenings = check("compose", "services: {digest: {}}", WANTED)

    severities = [one.severity for one in loosenings]
    assert severities == sorted(severities)
    assert len(set(loosenings)) == len(loosenings)
    assert all(one.fix for one in loosenings)


def test_kubernetes_words_for_the_whole_pod_are_understood() -> None:
    """A namespace and an explicit profile are no loosening."""
    documents = kubernetes()
    for document in documents:
        document["metadata"]["namespace"] = "agents"
    context = documents[0]["spec"]["template"]["spec"]["securityContext"]
    context["seccompProfile"] = {"type": "Localhost", "localhostProfile": "kos/seccomp.json"}
    context["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]

    assert found("kubernetes", as_yaml(documents)) == []

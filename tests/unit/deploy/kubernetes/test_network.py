"""Who reaches the agent and whom it reaches."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.deploy.kubernetes import MAIN, WAY_OUT
from tests.unit.deploy.kubernetes.manifests import ALLOWING, EXTERNAL, documents, export

MESH = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"io.kos/mesh": "true"}}}


def ways_out(config: dict[str, Any] | None = None, name: str = "shop") -> list[Any]:
    """Return what a component's policy lets out."""
    egress: list[Any] = documents(config)[f"NetworkPolicy/{name}"]["spec"]["egress"]
    return egress


def selects(document: Any) -> Any:
    """Return the labels of the Pods that a policy is for."""
    return document["spec"]["podSelector"]["matchLabels"]


@pytest.mark.parametrize("name", ["shop", "shop-egress"])
def test_everything_is_closed_first(name: str) -> None:
    """Who edits what is allowed cannot open the rest."""
    found = documents(ALLOWING)
    deny, pods = found[f"NetworkPolicy/{name}-deny"], found[f"Deployment/{name}"]

    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not deny["spec"].keys() & {"ingress", "egress"}
    labels = pods["spec"]["template"]["metadata"]["labels"].items()
    for policy in (deny, found[f"NetworkPolicy/{name}"]):
        assert selects(policy).items() <= labels
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_by_default_it_reaches_names_and_the_mesh_alone() -> None:
    """There is nothing else that it may connect to."""
    names, mesh = ways_out()

    assert {port["port"] for port in names["ports"]} == {53}
    assert "kube-dns" in str(names["to"])
    assert mesh == {"to": [MESH]}


def test_it_is_called_on_its_port_by_its_namespace_and_the_mesh() -> None:
    """Nobody else finds an open port."""
    (rule,) = documents({"http": {"port": 9000}})["NetworkPolicy/shop"]["spec"]["ingress"]

    assert rule["ports"] == [{"protocol": "TCP", "port": 9000}]
    assert rule["from"] == [{"podSelector": {}}, MESH]


def test_the_way_out_is_the_agents_alone() -> None:
    """It is no proxy for others."""
    found = documents(ALLOWING)
    (rule,) = found["NetworkPolicy/shop-egress"]["spec"]["ingress"]

    assert rule["ports"] == [{"protocol": "TCP", "port": 3128}]
    (caller,) = rule["from"]
    assert caller == {
        "podSelector": {"matchLabels": selects(found["NetworkPolicy/shop"])},
    }
    assert (
        "io.kos/mesh"
        not in found["Deployment/shop-egress"]["spec"]["template"]["metadata"]["labels"]
    )


def test_the_way_out_reaches_the_internet_on_the_ports_of_the_list() -> None:
    """Not the cluster, not its nodes, not their metadata."""
    _, internet = ways_out(ALLOWING, "shop-egress")

    assert [port["port"] for port in internet["ports"]] == [443, 8443]
    assert "169.254.0.0/16" in internet["to"][0]["ipBlock"]["except"]
    assert "10.0.0.0/8" in internet["to"][0]["ipBlock"]["except"]


def test_the_agent_reaches_its_way_out_and_private_addresses_of_the_list() -> None:
    """Its own proxy dials the private ones: the way out refuses them."""
    allow = ["api.example.com:443", "10.1.2.3:5432", "[fd00::1]:80", "8.8.8.8:53"]
    _, _, proxy, *private = ways_out({"sandbox": {"network": {"allow": allow}}})

    assert proxy["ports"] == [{"protocol": "TCP", "port": 3128}]
    assert [rule["to"][0]["ipBlock"]["cidr"] for rule in private] == ["10.1.2.3/32", "fd00::1/128"]
    assert [rule["ports"][0]["port"] for rule in private] == [5432, 80]


def test_an_agent_that_may_go_anywhere_does_not_get_the_nodes_credentials() -> None:
    """A cloud gives them to whoever asks."""
    *_, anywhere = ways_out(EXTERNAL)

    assert anywhere["to"][0]["ipBlock"] == {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}
    assert "ports" not in anywhere


@pytest.mark.parametrize(
    ("config", "files"), [({}, [MAIN]), (ALLOWING, [MAIN, WAY_OUT]), (EXTERNAL, [MAIN])]
)
def test_the_way_out_is_a_file_of_its_own(config: dict[str, Any], files: list[str]) -> None:
    """Podman plays it on other networks than the agent."""
    assert list(export(config).files) == files


def test_the_way_out_runs_the_proxy_of_the_same_image() -> None:
    """It checks the same list again, and has neither vault nor volumes."""
    spec = documents(ALLOWING, image="registry.example/shop:1")["Deployment/shop-egress"]["spec"]
    (one,) = spec["template"]["spec"]["containers"]

    assert one["image"] == "registry.example/shop:1"
    assert one["command"] == ["kos-agent"]
    assert one["args"] == ["sandbox", "egress", "/agent", "--listen", "0.0.0.0:3128"]
    assert not spec["template"]["spec"].keys() & {"volumes"}
    assert "volumeMounts" not in one

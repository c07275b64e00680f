"""The compose file: what is in it, and that it is the same each time."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.compose import FILE, render
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.seccomp import PROFILE
from kagent_sdk.deploy.settings import read_settings
from kagent_sdk.errors import DeployError

ALLOW = {"allow": ["api.example.com:443", "peer.internal:8080"]}


def deployment(*settings: str, **config: Any) -> Deployment:
    """Return what an agent's manifests are made from."""
    return describe(
        AgentConfig.model_validate({"name": "shop", **config}), "x", read_settings(settings)
    )


def compose(*settings: str, **config: Any) -> dict[str, Any]:
    """Return the parsed file of an agent with an allow-list, unless it says otherwise."""
    config.setdefault("sandbox", {"network": ALLOW})
    document: dict[str, Any] = yaml.safe_load(render(deployment(*settings, **config)).files[FILE])
    return document


def test_an_agent_with_an_allow_list_is_on_networks_without_a_way_out() -> None:
    """The egress container has the only one, and the agent is told of it."""
    document = compose()
    agent, egress = document["services"]["shop"], document["services"]["shop-egress"]

    assert document["networks"] == {
        "private": {"internal": True},
        "mesh": {"name": "kos-mesh", "internal": True},
        "outside": {},
    }
    assert agent["networks"] == {"private": {}, "mesh": {"aliases": ["shop.internal"]}}
    assert egress["networks"] == ["private", "outside"]
    assert agent["environment"] == {"AGENT_SANDBOX__NETWORK__UPSTREAM": "shop-egress:3128"}
    assert "environment" not in egress
    assert "ports" not in agent
    assert egress["entrypoint"] + egress["command"] == [
        *("kos-agent", "sandbox", "egress", "/agent", "--listen", "0.0.0.0:3128"),
    ]


def test_both_containers_are_locked_down() -> None:
    """The one that leads out is worth taking over; it has no vault and nothing to write."""
    document = compose()
    agent, egress = document["services"]["shop"], document["services"]["shop-egress"]
    for service in (agent, egress):
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true", "seccomp=./seccomp.json"]
        assert service["annotations"] == {"io.kos.agent": "true"}
        assert service["labels"] == {"io.kos.agent": "shop"}
        assert service["mem_limit"] == service["memswap_limit"]
        assert service["ulimits"]["core"] == {"soft": 0, "hard": 0}
        assert service["restart"] == "on-failure:5"
        assert "init" not in service
        assert [
            line for line in service["tmpfs"] if not line.partition(":")[2].startswith("ro,")
        ] == []

    assert agent["mem_limit"] == 512 * 1024 * 1024
    assert (agent["cpus"], agent["pids_limit"]) == (1, 160)
    assert agent["ulimits"]["nofile"] == {"soft": 1024, "hard": 1024}
    assert agent["stop_grace_period"] == "30s"
    assert agent["volumes"] == [
        "runtime:/agent/runtime:rw,noexec,nosuid,nodev",
        "logs:/agent/logs:rw,noexec,nosuid,nodev",
        "./secrets:/agent/secrets:ro,noexec,nosuid,nodev",
    ]
    assert document["volumes"] == {"runtime": {}, "logs": {}}
    assert "volumes" not in egress


def test_an_agent_with_an_open_network_needs_no_proxy() -> None:
    """It is on an ordinary network, from which its port can be shown."""
    document = compose("publish=9000", sandbox={"network": {"external": True}})
    agent = document["services"]["shop"]

    assert list(document["services"]) == ["shop"]
    assert list(agent["networks"]) == ["mesh", "outside"]
    assert agent["ports"] == ["127.0.0.1:9000:8080"]
    assert "environment" not in agent


def test_an_agent_that_reaches_nothing_is_on_the_mesh_alone() -> None:
    """Others call it; that takes no way out."""
    document = compose("mesh=other", sandbox={})

    assert list(document["services"]) == ["shop"]
    assert document["networks"] == {"mesh": {"name": "other", "internal": True}}


@pytest.mark.parametrize("network", [{}, ALLOW])
def test_a_port_that_no_engine_would_show_is_refused(network: dict[str, Any]) -> None:
    """Engines publish nothing from internal networks, and do not say so."""
    with pytest.raises(DeployError, match="publish: engines show no port"):
        compose("publish=8080", sandbox={"network": network})


def test_what_does_not_last_is_in_memory() -> None:
    """Of a size, and counted as the container's."""
    podman = compose("storage=ephemeral")
    docker = compose("storage=ephemeral", "engine=docker", http={"auth": "none"})

    assert podman["services"]["shop"]["tmpfs"][0] == (
        "/agent/runtime:rw,size=134217728,mode=0700,U,noexec,nosuid,nodev"
    )
    assert docker["services"]["shop"]["tmpfs"][1] == (
        "/agent/logs:rw,size=134217728,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev"
    )
    assert "volumes" not in podman
    assert "volumes" not in docker["services"]["shop"]


def test_what_only_one_engine_takes_is_written_for_it() -> None:
    """Docker knows no options of a mount but read-only."""
    volumes = compose("engine=docker", "vault=/etc/shop/secrets/")["services"]["shop"]["volumes"]

    assert volumes == [
        "runtime:/agent/runtime:rw",
        "logs:/agent/logs:rw",
        "/etc/shop/secrets:/agent/secrets:ro",
    ]


def test_limits_that_are_not_set_are_not_told() -> None:
    """A limit of null leaves a limit as it is."""
    nothing = dict.fromkeys(("cpu", "memory_bytes", "processes", "open_files"))
    agent = compose("storage=ephemeral", sandbox={"limits": nothing})["services"]["shop"]

    assert not {"mem_limit", "memswap_limit", "cpus", "pids_limit"} & agent.keys()
    assert agent["ulimits"] == {"core": {"soft": 0, "hard": 0}}
    assert "size=67108864" in agent["tmpfs"][0]


def test_gpus_are_reserved() -> None:
    """Docker takes the number; podman-compose makes devices of it."""
    rendering = render(deployment(limits={"gpus": 2}))
    agent = yaml.safe_load(rendering.files[FILE])["services"]["shop"]

    assert agent["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}
    ]
    assert any("GPUs" in note for note in rendering.notes)


def test_an_orchestrator_stands_beside_the_agent() -> None:
    """On the mesh, where the agents are."""
    document = compose("orchestrator_image=kos/orchestrator:1")

    assert document["services"]["orchestrator"]["image"] == "kos/orchestrator:1"
    assert document["services"]["orchestrator"]["networks"] == ["mesh"]


def test_a_low_port_needs_no_right() -> None:
    """In a network of one's own the kernel gives it to anyone."""
    agent = compose(http={"port": 443})["services"]["shop"]

    assert agent["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": 0}


def test_a_version_of_any_kind_is_a_tag_and_a_comment() -> None:
    """It is the author's text, and lands where a line break or a colon ends something."""
    text = render(deployment(version="1%+x\n\x07services: {}")).files[FILE]

    assert yaml.safe_load(text)["services"]["shop"]["image"] == "shop:1-x-services-"
    assert "image: shop:latest\n" in render(deployment(version="..")).files[FILE]


def test_a_long_name_leaves_room_for_its_proxys() -> None:
    """A name of more than 63 characters does not resolve."""
    names = list(compose(name="a" * 63)["services"])

    assert [len(name) for name in names] == [63, 63]
    assert names[1].endswith("-egress")


@pytest.mark.parametrize("path", ["/data/a:b", "/data/a b", "/data/\nService", '/data/"x'])
def test_a_path_that_would_end_early_is_refused(path: str) -> None:
    """What stands behind a colon would be options."""
    with pytest.raises(DeployError, match="characters that manifests cannot hold"):
        compose(sandbox={"write": [path]})


def test_the_same_agent_is_the_same_bytes() -> None:
    """A diff of manifests shows what has changed."""
    first, second = render(deployment()), render(deployment())

    assert first == second
    assert first.main == FILE
    assert set(first.files) == {FILE, PROFILE}
    assert first.files[FILE].startswith("# shop 0.1.0, by kos-agent export compose")
    assert max(len(line) for line in first.files[FILE].splitlines()) <= 110

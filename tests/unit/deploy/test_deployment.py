"""What manifests are made from: the configuration alone, never this machine."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy import compose, docker_run, kubernetes, quadlet
from kagent_sdk.deploy.deployment import AGENT_FOLDER, Deployment, describe, to_label
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.errors import DeployError


def deploy(config: dict[str, Any] | None = None, **settings: Any) -> Deployment:
    """Describe an agent of the folder `shop`."""
    return describe(
        AgentConfig.model_validate(config or {}), "shop", Settings.model_validate(settings)
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("shop", "shop"),
        ("My.Agent_2", "my-agent-2"),
        ("--", "agent"),
        ("a" * 62 + ".b", "a" * 62),
        ("é", "agent"),
    ],
)
def test_a_name_becomes_a_dns_label(name: str, label: str) -> None:
    """An agent's name may have what Kubernetes refuses."""
    assert to_label(name) == label


def test_the_image_is_named_after_the_agent_unless_it_is_set() -> None:
    """What `build` makes is what every manifest runs."""
    config = {"name": "Shop", "version": "1.2"}

    assert deploy(config).image == "shop:1.2"
    assert deploy(config, image="registry.example/shop@sha256:0").image.endswith("@sha256:0")
    assert deploy().image == "shop:0.1.0"


def test_a_free_port_cannot_be_deployed() -> None:
    """Nobody would find the agent."""
    with pytest.raises(DeployError, match=r"http\.port is 0"):
        deploy({"http": {"port": 0}})


def test_what_is_written_is_a_volume_once() -> None:
    """Folders of the agent move with it; what is in another volume needs none of its own."""
    write = ["models", "models/small", "/srv/data", "runtime/data/x", "/dev/shm/x"]  # noqa: S108
    volumes = deploy({"sandbox": {"write": write}}, storage="ephemeral").volumes

    assert [(volume.name, volume.target) for volume in volumes] == [
        ("runtime", f"{AGENT_FOLDER}/runtime"),
        ("logs", f"{AGENT_FOLDER}/logs"),
        ("data-1", f"{AGENT_FOLDER}/models"),
        ("data-2", "/srv/data"),
    ]
    assert not any(volume.is_kept for volume in volumes)


@pytest.mark.parametrize(
    ("config", "vault"),
    [
        ({}, f"{AGENT_FOLDER}/secrets/vault.json"),
        ({"http": {"auth": "none"}}, None),
        (
            {"http": {"auth": "none"}, "secrets": {"expose": ["key"], "file": "/run/secrets/v"}},
            "/run/secrets/v",
        ),
        (
            {"http": {"auth": "none"}, "callbacks": {"allow": ["https://example.com/"]}},
            f"{AGENT_FOLDER}/secrets/vault.json",
        ),
        (
            {"http": {"auth": "none"}, "orchestrator": {"url": "http://orchestrator:8080"}},
            f"{AGENT_FOLDER}/secrets/vault.json",
        ),
    ],
)
def test_an_agent_has_a_vault_unless_nothing_in_it_would_be_read(
    config: dict[str, Any], vault: str | None
) -> None:
    """On an address that others reach a token is needed, and that is in the vault."""
    assert deploy(config).vault == vault


@pytest.mark.parametrize(
    ("network", "needs_proxy"),
    [
        ({}, False),
        ({"allow": ["api.example.com:443"]}, True),
        ({"allow": ["api.example.com:443"], "external": True}, False),
    ],
)
def test_a_proxy_is_the_way_out_of_an_allow_list(
    network: dict[str, Any], needs_proxy: bool
) -> None:
    """Nobody else needs a second container."""
    assert deploy({"sandbox": {"network": network}}).needs_proxy is needs_proxy


def test_the_container_is_the_namespace() -> None:
    """Namespaces in namespaces would need what the container takes away."""
    assert deploy({"worker": {"isolation": "bwrap"}}).environment == (
        ("AGENT_WORKER__ISOLATION", "process"),
    )
    assert deploy().environment == ()


def test_a_program_may_notify() -> None:
    """Its socket is one of the file system's."""
    assert deploy({"worker": {"command": ["sh"]}}).policy.network.unix_sockets
    assert not deploy().policy.network.unix_sockets


def test_files_of_the_link_beside_the_vault_are_named() -> None:
    """They are mounted with it: whoever makes the folder has to know of them; others must not be looked for."""
    tls = {"ca": "ca.pem", "certificate": "secrets/link.crt", "key": "secrets/link.key"}
    link = {"orchestrator": {"url": "https://mesh.internal", "tls": tls}}

    assert deploy(link).link_files == ("link.crt", "link.key")
    assert deploy(link).vault_text == "the vault and link.crt, link.key"
    assert deploy({"orchestrator": {"tls": tls}}).link_files == ()
    for render in (compose.render, quadlet.render, docker_run.render, kubernetes.render):
        notes = render(deploy(link)).notes
        assert any("link.crt" in note and "link.key" in note for note in notes), notes

"""Units for Quadlet: every key is one that it knows, and every flag of the policy is there."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.quadlet import render
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.settings import read_settings
from kagent_sdk.errors import DeployError

ALLOW = {"network": {"allow": ["api.example.com:443"]}}

KNOWN = {
    # podman-systemd.unit(5), as Podman 4.8 has it: with one more Quadlet makes no service at all.
    "Container": {
        *("AddDevice", "Annotation", "ContainerName", "DropCapability", "Environment", "Exec"),
        *("Group", "HealthCmd", "Image", "Label", "Network", "NoNewPrivileges", "PidsLimit"),
        *("PodmanArgs", "PublishPort", "ReadOnly", "SeccompProfile", "Sysctl", "Ulimit", "User"),
        *("Volume",),
    },
    "Network": {"NetworkName", "Internal"},
    "Volume": {"VolumeName"},
    # These are systemd's own: systemd.unit(5), systemd.service(5).
    "Unit": {"Description", "StartLimitIntervalSec", "StartLimitBurst", "Wants", "After"},
    "Service": {"Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStopSec"},
    "Install": {"WantedBy"},
}

Unit = dict[str, dict[str, list[str]]]


def parse(text: str) -> Unit:
    """Return a unit as systemd reads it: keys may come more than once (systemd.syntax(7))."""
    unit: Unit = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            assert line.endswith("]")
            assert line[1:-1] not in unit
            section = unit.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals
            assert not value.endswith("\\")
            section.setdefault(key, []).append(value)
    return unit


def quadlet(*settings: str, **config: Any) -> Rendering:
    """Return the units of an agent with an allow-list, unless it says otherwise."""
    config.setdefault("sandbox", ALLOW)
    model = AgentConfig.model_validate({"name": "shop", **config})
    return render(describe(model, "x", read_settings(settings)))


def units(*settings: str, **config: Any) -> dict[str, Unit]:
    """Return the parsed units by their files' names."""
    files = quadlet(*settings, **config).files
    return {name: parse(text) for name, text in files.items() if not name.endswith(".json")}


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ((), {}),
        (("storage=ephemeral",), {"limits": {"gpus": 1}, "http": {"port": 80}}),
        (("publish=8080",), {"sandbox": {"network": {"external": True}}}),
    ],
)
def test_every_key_is_known(settings: tuple[str, ...], config: dict[str, Any]) -> None:
    """Quadlet drops a unit with a key that it does not know, and says so in the journal alone."""
    for name, unit in units(*settings, **config).items():
        for section, keys in unit.items():
            assert keys.keys() <= KNOWN[section], name


def test_there_is_a_unit_for_everything() -> None:
    """What a container names, Quadlet makes first."""
    rendering = quadlet()

    assert rendering.main == "shop.container"
    assert sorted(rendering.files) == [
        "kos-mesh.network",
        "seccomp.json",
        "shop-egress.container",
        "shop-logs.volume",
        "shop-outside.network",
        "shop-private.network",
        "shop-runtime.volume",
        "shop.container",
    ]
    assert any("/etc/kos/shop/secrets must be there" in note for note in rendering.notes)


def test_both_containers_are_locked_down() -> None:
    """Every flag of the policy, by its key or as an argument of podman."""
    found = units()
    for name in ("shop.container", "shop-egress.container"):
        container = found[name]["Container"]
        arguments = " ".join(container["PodmanArgs"]).split()
        assert (container["User"], container["Group"]) == (["1000"], ["1000"])
        assert container["DropCapability"] == ["all"]
        assert container["NoNewPrivileges"] == ["true"]
        assert container["ReadOnly"] == ["true"]
        assert container["SeccompProfile"] == ["/etc/kos/shop/seccomp.json"]
        assert container["Ulimit"] == ["core=0:0", "nofile=1024:1024"]
        assert container["Annotation"] == ["io.kos.agent=true"]
        assert container["Label"] == ["io.kos.agent=shop"]
        assert {"--read-only-tmpfs=false", "--http-proxy=false", "--cpus=1"} <= set(arguments)
        assert "AutoUpdate" not in container
    agent = found["shop.container"]["Container"]

    assert agent["PidsLimit"] == ["160"]
    assert "--memory=536870912 --memory-swap=536870912" in agent["PodmanArgs"]
    assert "--stop-timeout=30" in agent["PodmanArgs"]
    assert agent["Volume"] == [
        "shop-runtime.volume:/agent/runtime:rw,noexec,nosuid,nodev",
        "shop-logs.volume:/agent/logs:rw,noexec,nosuid,nodev",
        "/etc/kos/shop/secrets:/agent/secrets:ro,noexec,nosuid,nodev",
    ]


def test_the_agent_has_one_way_out() -> None:
    """Networks without a gateway, and a proxy on one that has one."""
    found = units()
    agent, egress = found["shop.container"], found["shop-egress.container"]["Container"]

    assert agent["Container"]["Network"] == [
        "shop-private.network",
        "kos-mesh.network:alias=shop.internal",
    ]
    assert egress["Network"] == ["shop-private.network", "shop-outside.network"]
    assert found["shop-private.network"]["Network"]["Internal"] == ["true"]
    assert found["kos-mesh.network"]["Network"]["Internal"] == ["true"]
    assert "Internal" not in found["shop-outside.network"]["Network"]
    assert agent["Container"]["Environment"] == [
        "AGENT_SANDBOX__NETWORK__UPSTREAM=shop-egress:3128"
    ]
    assert agent["Unit"]["Wants"] == ["network-online.target", "shop-egress.service"]
    assert egress["Exec"] == ["sandbox egress /agent --listen 0.0.0.0:3128"]
    assert egress["HealthCmd"] == ["none"]
    assert "Volume" not in egress
    assert "Environment" not in egress


def test_what_no_restart_mends_is_not_restarted() -> None:
    """78 is a wrong configuration, 3 a start that fails; 75 crashes on, five times in ten minutes."""
    unit = units()["shop.container"]

    assert unit["Service"]["Restart"] == ["on-failure"]
    assert unit["Service"]["RestartPreventExitStatus"] == ["2 3 78"]
    assert unit["Service"]["TimeoutStopSec"] == ["45"]
    assert unit["Unit"]["StartLimitBurst"] == ["5"]


def test_an_open_network_shows_the_port_and_gpus_are_devices() -> None:
    """What an environment adds."""
    found = units(
        "publish=0.0.0.0:9000",
        "storage=ephemeral",
        sandbox={"network": {"external": True, "listen": [443]}},
        limits={"gpus": 2},
    )
    agent = found["shop.container"]["Container"]

    assert agent["PublishPort"] == ["0.0.0.0:9000:8080"]
    assert agent["AddDevice"] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert agent["Sysctl"] == ["net.ipv4.ip_unprivileged_port_start=0"]
    assert (
        "--tmpfs=/agent/runtime:rw,size=134217728,mode=0700,U,noexec,nosuid,nodev"
        in agent["PodmanArgs"]
    )
    assert not [name for name in found if name.endswith(".volume")]


def test_an_agent_alone_is_told_what_to_do_with_its_units() -> None:
    """Without a vault, GPUs and limits there is less of it."""
    nothing = dict.fromkeys(("cpu", "memory_bytes", "processes", "open_files"))
    rendering = quadlet(sandbox={"limits": nothing}, http={"auth": "none"}, version="1%\n[Service]")
    unit = parse(rendering.files["shop.container"])

    assert len(rendering.notes) == 2
    assert unit["Unit"]["Description"] == ["agent shop 1%% [Service]"]
    assert unit["Container"]["Ulimit"] == ["core=0:0"]
    assert "PidsLimit" not in unit["Container"]


def test_a_port_that_podman_would_not_show_is_refused() -> None:
    """It publishes nothing from internal networks, and does not say so."""
    with pytest.raises(DeployError, match="publish"):
        quadlet("publish=8080")


def test_the_same_agent_is_the_same_bytes() -> None:
    """A diff of units shows what has changed."""
    assert quadlet(limits={"gpus": 1}) == quadlet(limits={"gpus": 1})

"""The flags of a container: every rule of the policy as an engine is told it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.engine_flags import (
    Engine,
    Mount,
    Surroundings,
    engine_flags,
    publish_address,
    vault_mount,
    words_of,
)
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.sandbox.policy import HOST_PROCESSES

NOWHERE = Surroundings("a", networks=("none",), seccomp="/s.json")


def deployment(**sections: Any) -> Deployment:
    """Return an agent of that configuration, ready to deploy."""
    return describe(AgentConfig.model_validate({"name": "a", **sections}), "a", Settings())


def words(
    agent: Deployment, surroundings: Surroundings = NOWHERE, engine: Engine = "podman"
) -> list[str]:
    """Return the flags of a container."""
    return words_of(engine_flags(agent, surroundings, engine))


def test_podman_gets_the_whole_policy() -> None:
    """These are the flags that were verified from inside a container; in this order, always."""
    mounts = (Mount("/a/logs", "/agent/logs"), Mount("/s", "/agent/secrets", is_writable=False))

    assert words(deployment(), replace(NOWHERE, mounts=mounts)) == [
        "--name=a",
        "--label=io.kos.agent=a",
        "--annotation=io.kos.agent=true",
        "--user=1000:1000",
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=/s.json",
        "--memory=536870912",
        "--memory-swap=536870912",
        "--cpus=1",
        f"--pids-limit={128 + HOST_PROCESSES}",
        "--ulimit=core=0:0",
        "--ulimit=nofile=1024:1024",
        "--network=none",
        "--volume=/a/logs:/agent/logs:rw,noexec,nosuid,nodev",
        "--volume=/s:/agent/secrets:ro,noexec,nosuid,nodev",
        "--stop-timeout=30",
    ]


def test_docker_gets_the_flags_that_it_knows() -> None:
    """An unknown flag, or option of a mount, is an error there."""
    mounts = (Mount("/a/logs", "/agent/logs"), Mount("", "/agent/runtime", is_handed_over=True))
    found = words(deployment(), replace(NOWHERE, mounts=mounts, maps_user=True), "docker")

    assert "--read-only" in found
    assert "--volume=/a/logs:/agent/logs:rw" in found
    assert "--mount=type=volume,destination=/agent/runtime" in found
    assert not [word for word in found if word.startswith(("--read-only-", "--anno", "--userns"))]


def test_a_limit_that_is_null_is_left_to_the_engine() -> None:
    """Null leaves a limit as it is, in a container as anywhere."""
    limits = {"cpu": None, "memory_bytes": None, "processes": None, "open_files": None}
    found = words(deployment(sandbox={"limits": limits}))

    assert not [word for word in found if word.startswith(("--mem", "--cpus", "--pids"))]
    assert [word for word in found if word.startswith("--ulimit")] == ["--ulimit=core=0:0"]


def test_the_machine_has_its_say() -> None:
    """What differs from one machine to the next stands in the surroundings alone."""
    surroundings = Surroundings(
        "b",
        networks=("inner", "mesh"),
        publish="8081",
        labels=(("io.kos.folder", "/srv/a"),),
        environment=(("AGENT_LOGS__LEVEL", None), ("AGENT_WORKER__COUNT", "2")),
        maps_user=True,
        most_processes=4096,
    )
    found = words(deployment(), surroundings)

    assert {
        "--name=b",
        "--label=io.kos.folder=/srv/a",
        "--userns=keep-id:uid=1000,gid=1000",
        "--ulimit=nproc=4096:4096",
        "--network=inner",
        "--network=mesh",
        "--publish=127.0.0.1:8081:8080",
        "--env=AGENT_LOGS__LEVEL",
        "--env=AGENT_WORKER__COUNT=2",
    } <= set(found)
    assert not [word for word in found if "seccomp" in word]


def test_no_port_is_shown_to_the_world_unless_that_is_said() -> None:
    """An engine takes a lone port for one of every address."""
    assert publish_address("8080") == "127.0.0.1:8080"
    assert publish_address("0.0.0.0:80") == "0.0.0.0:80"
    assert publish_address("[::1]:80") == "[::1]:80"


@pytest.mark.parametrize(
    "sections", [{"http": {"port": 80}}, {"sandbox": {"network": {"listen": [443]}}}]
)
def test_a_low_port_takes_a_sysctl_and_no_capability(sections: dict[str, Any]) -> None:
    """NET_BIND_SERVICE would be a right for all of the agent's processes."""
    found = words(deployment(**sections))

    assert "--sysctl=net.ipv4.ip_unprivileged_port_start=0" in found
    assert not [word for word in found if "cap-add" in word]
    assert not [word for word in words(deployment()) if "sysctl" in word]


def test_gpus_are_asked_for_as_each_engine_has_it() -> None:
    """limits.gpus becomes the right device request everywhere."""
    agent = deployment(limits={"gpus": 2})

    assert [word for word in words(agent) if "gpu" in word] == [
        "--device=nvidia.com/gpu=0",
        "--device=nvidia.com/gpu=1",
    ]
    assert "--gpus=2" in words(agent, engine="docker")


def test_the_stop_timeout_is_whole_seconds_above_the_grace() -> None:
    """The engine's SIGKILL must not come before the agent's own end."""
    found = words(deployment(shutdown={"grace_s": 0.5}))

    assert found[-1] == "--stop-timeout=6"


def test_the_ordinary_network_of_an_engine_takes_no_flag() -> None:
    """An agent that may connect anywhere is where everything is."""
    found = words(deployment(), Surroundings("a"))

    assert not [word for word in found if "network" in word]


def test_the_vault_is_a_folder_where_that_is_its_own() -> None:
    """A vault that is replaced on the machine is a new file: only the folder shows it."""
    keyed = {"expose": ["k"]}
    alone = deployment(secrets={"file": "vault.json", **keyed})

    assert vault_mount(deployment(http={"auth": "none"}), "/s") is None
    assert vault_mount(deployment(secrets=keyed), "/s") == Mount(
        "/s", "/agent/secrets", is_writable=False
    )
    assert vault_mount(alone, "/d") == Mount(
        "/d/vault.json", "/agent/vault.json", is_writable=False
    )


def test_a_volume_can_be_made_the_agents() -> None:
    """A new volume at a path that the image has not belongs to root."""
    mounts = (Mount("v", "/srv/v", is_handed_over=True), Mount("", "/srv/w", is_handed_over=True))
    found = words(deployment(), replace(NOWHERE, mounts=mounts))

    assert "--volume=v:/srv/v:rw,noexec,nosuid,nodev,U" in found
    assert "--mount=type=volume,destination=/srv/w,noexec,nosuid,nodev,U" in found

"""Words that manifests may be written in besides the plainest, and what becomes of each."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kagent_sdk.deploy.lockdown.check import check
from tests.unit.deploy.lockdown.manifests import (
    COMPOSE,
    DOCKER_RUN,
    PROXIED,
    QUADLET,
    as_yaml,
    beside,
    deployment,
    kubernetes,
)

WANTED = deployment(PROXIED)


def controls(target: str, text: str) -> list[str]:
    """Return the control of each finding."""
    return [one.control for one in check(target, text, WANTED, beside)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"deploy": {"resources": {"limits": {"memory": "512M", "cpus": "1", "pids": 100}}}}, []),
        ({"deploy": {"resources": {"limits": {"memory": "512M"}}, "replicas": 2}}, []),
        ({"cpu_quota": 100_000, "cpu_period": 100_000}, []),
        ({"cpu_quota": "x"}, ["not_understood"]),
        ({"entrypoint": "kos-agent run"}, []),
        ({"command": ["--workers", "2"]}, []),
        ({"entrypoint": "sh '"}, ["entrypoint"]),
        ({"healthcheck": {"test": ["CMD", "kos-agent", "health"]}}, []),
        ({"stop_signal": "SIGTERM", "runtime": "runsc", "init": True, "x-mine": 1}, []),
        ({"runtime": "mine"}, ["not_understood"]),
        ({"x-podman.rootfs": "/"}, ["not_understood"]),
        ({"volumes": {"a": "b"}}, ["not_understood"]),
        ({"ports": "8080:8080"}, ["not_understood"]),
        ({"cpus": "x"}, ["cgroup", "not_understood"]),
        ({"pids_limit": "x"}, ["cgroup", "not_understood"]),
        ({"stop_grace_period": "x"}, ["stop_timeout", "not_understood"]),
        ({"ulimits": {"core": 0, "nofile": "x"}}, ["limits", "not_understood"]),
        ({"stop_grace_period": -1}, []),
        ({"ipc": "private", "pid": None}, []),
        ({"shm_size": "64m", "volumes": [{"type": "tmpfs", "target": "/dev/shm"}]}, []),  # noqa: S108 - the container's own
        ({"volumes": ["a:b:c:d"]}, ["not_understood"]),
        ({"volumes": ["/srv/data"]}, ["files"]),
        ({"group_add": ["1000"]}, []),
        ({"environment": {"AGENT_SANDBOX__MODE": "enforce", "OTHER": "x", "AGENT_NAME": None}}, []),
        ({"environment": {"AGENT_SANDBOX__MODE": False}}, ["environment"]),
        ({"environment": {"AGENT_SANDBOX__NETWORK__UPSTREAM": "elsewhere:1"}}, ["environment"]),
    ],
)  # fmt: skip
def test_words_of_compose(change: dict[str, Any], expected: list[str]) -> None:
    """The same can be said in several ways; none of them may be overlooked."""
    document = yaml.safe_load(COMPOSE)
    document["services"]["digest"] |= change

    assert controls("compose", yaml.safe_dump(document)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no-new-privileges", "seccomp=x.json", "apparmor=mine"], []),
        (["no-new-privileges=true", "seccomp=unconfined", "seccomp=x.json"], ["syscalls"]),
        (["no-new-privileges", "seccomp=x.json", "label=level:s0", "mask=/proc/x"], []),
        (["no-new-privileges", "seccomp=x.json", "label=type:spc_t"], ["protections"]),
        (["no-new-privileges", "seccomp"], ["syscalls"]),
    ],
)
def test_security_options(words: list[str], expected: list[str]) -> None:
    """One flag has the whole of it in one word."""
    document = yaml.safe_load(COMPOSE)
    document["services"]["digest"]["security_opt"] = words

    assert controls("compose", yaml.safe_dump(document)) == expected


def test_a_compose_volume_may_be_a_folder_of_the_machine() -> None:
    """A harmless name stands before it."""
    document = yaml.safe_load(COMPOSE)
    document["volumes"]["logs"] = {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}
    document["volumes"]["runtime"] = {"driver_opts": {"type": "tmpfs"}}

    assert controls("compose", yaml.safe_dump(document)) == ["files"]


def test_a_compose_network_of_another_file_is_not_seen() -> None:
    """What it leads to nobody can say from here; a driver of its own may be anything."""
    document = yaml.safe_load(COMPOSE)
    document["networks"]["mesh"] = {"external": True}
    document["networks"]["private"] = {"internal": True, "driver": "host"}
    document["include"] = ["other.yaml"]

    assert controls("compose", yaml.safe_dump(document)) == ["egress", "egress", "not_understood"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-- ", []),
        ("--cpu-quota=50000", []),
        ("--cpu-quota=x", ["not_understood"]),
        ("--ulimit core", ["not_understood"]),
        ("--ulimit", ["not_understood"]),
        ("--publish-all=false", []),
        ("--health-cmd='kos-agent health'", []),
        ("--stop-signal=TERM", []),
        ("--gpus=device=0,1", ["devices"]),
        ("--tmpfs /dev/shm:size=64m", []),
        ("--mount type=tmpfs,dst=/dev/shm", []),
        ("-itq --tty=false -h name", []),
        ("--network=none", []),
        ("--read-only=true", []),
        ("--privileged=false", []),
        ("--privileged=perhaps", ["privileged"]),
        ("--read-only=perhaps", ["read_only_root"]),
        ("--magic --rm", ["not_understood"]),
    ],
)
def test_words_of_podman_run(words: str, expected: list[str]) -> None:
    """Flags are harmless, or judged, or told."""
    script = DOCKER_RUN.replace('"$@" "$image"', f'"$@" {words} "$image"')

    assert controls("docker-run", script) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("podman --log-level=debug container run digest:1.2.0", "egress"),
        ("docker create $IMAGE", "egress"),
        ("podman run --network=host $IMAGE", "egress"),
        ("sudo /usr/bin/docker run --name=digest $IMAGE", "user"),
    ],
)
def test_commands_are_found_however_they_are_called(script: str, expected: str) -> None:
    """What starts a container is rarely the first word of a line."""
    assert expected in controls("docker-run", script)


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ("/var/lib/kos/digest/runtime:/agent/runtime:rw,noexec,nosuid,nodev", []),
        ("/etc/kos/digest/secrets:/agent/secrets:ro", []),
        ("/etc:/agent/secrets:ro", ["files"]),
        ("/var/lib/docker/x:/agent/runtime:noexec,nosuid,nodev", ["files"]),
        ("/etc/kos/digest/other:/srv:ro", ["files"]),
    ],
)
def test_folders_of_the_machine(volume: str, expected: list[str]) -> None:
    """What is the agent's lies somewhere; what is the machine's is nobody else's."""
    script = DOCKER_RUN.replace('"$@" "$image"', f'"$@" -v {volume} "$image"')

    assert controls("docker-run", script) == expected


def test_a_network_without_a_name_is_none() -> None:
    """A command that would fail makes nothing."""
    assert controls("docker-run", f"podman network create --internal\n{DOCKER_RUN}") == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("AppArmor=mine", []),
        ("SecurityLabelLevel=s0", []),
        ("SecurityLabelDisable=false", []),
        ("Exec=--workers 2", []),
        ("; a comment", []),
        ("PodmanArgs=--init", []),
        ("Network=none", []),
    ],
)
def test_words_of_quadlet(line: str, expected: list[str]) -> None:
    """Keys that only tighten are let through."""
    assert controls("quadlet", QUADLET.replace("[Container]", f"[Container]\n{line}")) == expected


def in_kubernetes(**changes: Any) -> list[str]:
    """Return the findings after changes of the Pod's security context and the container."""
    documents = kubernetes()
    spec = documents[0]["spec"]["template"]["spec"]
    spec["securityContext"] |= changes.get("context", {})
    spec["containers"][0] |= changes.get("container", {})
    spec |= changes.get("pod", {})
    return controls("kubernetes", as_yaml(documents))


def test_words_of_kubernetes() -> None:
    """A field that is unknown may be the next privileged."""
    limits = {"cpu": 1, "memory": "512Mi", "hugepages-2Mi": "2Mi"}

    assert in_kubernetes(context={"magic": True}) == ["not_understood"]
    assert in_kubernetes(container={"magic": True}) == ["not_understood"]
    assert in_kubernetes(container={"resources": {"limits": limits}}) == []
    assert in_kubernetes(pod={"terminationGracePeriodSeconds": None}) == []


def test_a_policy_without_limits_asks_for_none() -> None:
    """A null leaves a limit as it is."""
    limits = {"memory_bytes": None, "processes": None, "cpu": None, "open_files": None}
    config = {**PROXIED, "sandbox": {**PROXIED["sandbox"], "limits": limits}}
    document = yaml.safe_load(COMPOSE)
    for key in ("mem_limit", "memswap_limit", "cpus", "pids_limit"):
        del document["services"]["digest"][key]

    assert check("compose", yaml.safe_dump(document), deployment(config)) == ()


def test_variables_of_the_deployment_itself_are_right() -> None:
    """What the exporters write is no finding."""
    config = {**PROXIED, "worker": {"isolation": "bwrap"}}
    document = yaml.safe_load(COMPOSE)
    document["services"]["digest"]["environment"]["AGENT_WORKER__ISOLATION"] = "process"

    assert check("compose", yaml.safe_dump(document), deployment(config)) == ()


def test_fewer_gpus_than_are_wanted_are_no_loosening() -> None:
    """All of them may be as many as there are."""
    wanted = deployment({**PROXIED, "limits": {"gpus": 2}})
    script = DOCKER_RUN.replace('"$@" "$image"', '"$@" --gpus=all "$image"')

    assert check("docker-run", script, wanted) == ()

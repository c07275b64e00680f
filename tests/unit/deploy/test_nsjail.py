"""kos-agent export nsjail: a configuration in protobuf's text format that says what config.yaml says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kagent_sdk.deploy.nsjail import render
from tests.unit.deploy.bundles import deploy

MEBIBYTE = 1024 * 1024

FIELDS = {
    "": {
        *("name", "mode", "hostname", "cwd", "time_limit", "forward_signals", "uidmap", "gidmap"),
        *("keep_caps", "keep_env", "envar", "disable_no_new_privs", "exec_bin", "mount"),
        *(f"clone_new{kind}" for kind in ("net", "user", "ns", "pid", "ipc", "uts", "cgroup")),
        *("rlimit_as_type", "rlimit_core", "rlimit_cpu_type", "rlimit_fsize", "rlimit_fsize_type"),
        *("rlimit_nofile", "rlimit_nofile_type", "detect_cgroupv2", "cgroup_mem_max"),
        *("cgroup_mem_swap_max", "cgroup_pids_max", "cgroup_cpu_ms_per_sec"),
    },
    "uidmap": {"inside_id", "outside_id", "count"},
    "gidmap": {"inside_id", "outside_id", "count"},
    "exec_bin": {"path", "arg"},
    "mount": {
        *("src", "dst", "fstype", "options", "is_bind", "rw", "mandatory"),
        *("nosuid", "nodev", "noexec"),
    },
}
"""The messages of google/nsjail's config.proto, and those of their fields that are ours."""

TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*([A-Za-z_]\w*|-?\d+|"(?:[^"\\]|\\.)*"|[:{}])')


def parse(text: str) -> dict[str, Any]:
    """Return a message: every field is a list of its values."""
    text = text.rstrip()
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        assert found, f"no token at {text[at : at + 40]!r}"
        tokens.append(found[1])
        at = found.end()
    message, rest = _message(iter(tokens), "")
    assert rest == "end"
    return message


def _message(tokens: Iterator[str], kind: str) -> tuple[dict[str, Any], str]:
    message: dict[str, Any] = {}
    for name in tokens:
        if name == "}":
            return message, "}"
        assert name in FIELDS[kind], f"{kind or 'the configuration'} has no field {name}"
        mark = next(tokens)
        if mark == "{":
            value, rest = _message(tokens, name)
            assert rest == "}"
            message.setdefault(name, []).append(value)
        else:
            assert mark == ":"
            message.setdefault(name, []).append(_scalar(next(tokens)))
    return message, "end"


def _scalar(word: str) -> object:
    if word.startswith('"'):
        return json.loads(word)
    if word in {"true", "false"}:
        return word == "true"
    return int(word) if word.lstrip("-").isdigit() else word


def configuration(config: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Return what is exported for an agent, parsed."""
    rendering = render(deploy(config, **settings))
    return parse(rendering.files[rendering.main])


def mounts(message: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the mounts by where they are, each field once."""
    return {
        each["dst"][0]: {key: value[0] for key, value in each.items()} for each in message["mount"]
    }


def test_the_agent_is_alone_in_its_namespaces_without_rights() -> None:
    """That is what nsjail is for."""
    message = configuration()
    user = [{"inside_id": ["1000"], "outside_id": ["1000"], "count": [1]}]

    assert all(
        message[f"clone_new{kind}"] == [True]
        for kind in ("user", "ns", "pid", "ipc", "uts", "cgroup", "net")
    )
    assert (message["uidmap"], message["gidmap"]) == (user, user)
    assert message["keep_caps"] == message["disable_no_new_privs"] == message["keep_env"] == [False]


def test_the_host_runs_as_long_as_it_likes_and_may_drain() -> None:
    """Nsjail ends a program after 600 s, and by SIGKILL, unless it is told otherwise."""
    message = configuration()

    assert (message["mode"], message["time_limit"]) == (["ONCE"], [0])
    assert message["forward_signals"] == [True]
    assert message["exec_bin"] == [{"path": ["/opt/kos/bin/kos-agent"], "arg": ["run", "/agent"]}]


def test_the_limits_are_those_of_config_yaml() -> None:
    """Nsjail's own are 512 MiB of addresses, 32 files and 600 s of processor time."""
    limits = {"cpu": 1.5, "processes": 64, "open_files": 256, "file_bytes": 8 * MEBIBYTE}
    message = configuration({"sandbox": {"limits": limits}})

    assert message["rlimit_as_type"] == message["rlimit_cpu_type"] == ["INF"]
    assert (message["rlimit_core"], message["rlimit_nofile"]) == ([0], [256])
    assert message["rlimit_fsize"] == [8]
    assert message["cgroup_mem_max"] == [512 * MEBIBYTE]
    assert message["cgroup_mem_swap_max"] == [0]
    assert message["cgroup_pids_max"] == [64 + 32]
    assert message["cgroup_cpu_ms_per_sec"] == [1500]


def test_limits_that_the_agent_does_without_are_left_out() -> None:
    """None in config.yaml leaves a limit as the machine has it."""
    limits = dict.fromkeys(("cpu", "memory_bytes", "processes", "open_files"))
    message = configuration({"sandbox": {"limits": limits}})

    assert not [name for name in message if name.startswith("cgroup_")]
    assert message["rlimit_nofile_type"] == ["HARD"]
    assert message["rlimit_fsize_type"] == ["INF"]


def test_the_agent_writes_its_volumes_and_executes_nothing_there() -> None:
    """The rest of its folder, and the machine's programs, are read-only."""
    found = mounts(configuration({"sandbox": {"write": ["/data"]}}, folder="/home/shop"))
    writable = {place for place, fields in found.items() if fields.get("rw")}
    devices = {place for place in writable if place.startswith("/dev/")} - {"/dev/shm"}  # noqa: S108

    assert writable - devices == {"/agent/runtime", "/agent/logs", "/data", "/dev/shm"}  # noqa: S108
    assert all(
        found[place]["nosuid"] and found[place]["nodev"] and found[place]["noexec"]
        for place in writable - devices
    )
    assert found["/agent"]["src"] == "/home/shop"
    assert found["/agent/logs"]["src"] == "/home/shop/logs"
    assert found["/data"]["src"] == "/data"


def test_the_environment_of_python_is_mounted_unless_it_is_among_the_programs() -> None:
    """A virtual environment in /usr is there already."""
    assert "/opt/kos" in mounts(configuration())
    assert "/usr/lib/kos" not in mounts(configuration(python="/usr/lib/kos"))


@pytest.mark.parametrize(
    ("network", "publish", "own"),
    [
        ({}, None, True),
        ({"allow": ["api.example.com:443"]}, None, False),
        ({"external": True}, None, False),
        ({}, "127.0.0.1:9000", False),
    ],
)
def test_it_is_on_the_machines_network_only_where_it_is_reached_or_reaches_out(
    network: dict[str, Any], publish: str | None, own: bool
) -> None:
    """Nsjail makes no network that leads to a proxy alone."""
    message = configuration({"sandbox": {"network": network}}, publish=publish)

    assert message["clone_newnet"] == [own]


@pytest.mark.parametrize(
    ("publish", "host", "port"),
    [("9000", "127.0.0.1", "9000"), ("10.0.0.5:80", "10.0.0.5", "80"), ("[::1]:80", "::1", "80")],
)
def test_the_control_plane_listens_where_it_is_published(
    publish: str, host: str, port: str
) -> None:
    """There is no engine that would forward a port."""
    variables = configuration(publish=publish)["envar"]

    assert f"AGENT_HTTP__HOST={host}" in variables
    assert f"AGENT_HTTP__PORT={port}" in variables


def test_gpus_are_devices_that_a_machine_may_lack() -> None:
    """As many as config.yaml asks for, and what all of them need."""
    found = mounts(configuration({"limits": {"gpus": 2}}))

    assert {"/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= set(found)
    assert found["/dev/nvidia0"]["mandatory"] is False
    assert "/dev/nvidia0" not in mounts(configuration())

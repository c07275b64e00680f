"""From config.yaml, the agent's folder and the machine to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.host import confinement as module
from kagent_sdk.host.confinement import Confinement, find_confinement, find_secluded
from kagent_sdk.host.grounds import Grounds
from kagent_sdk.sandbox.policy import AGENT_ID, Destination, Isolation, Limits, Mode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an agent's folder as a host has prepared it."""
    for name in ("runtime/cache", "runtime/data", "logs", "secrets", "models", "tools"):
        (tmp_path / "agent" / name).mkdir(parents=True)
    return tmp_path / "agent"


def confinement(folder: Path, **options: Any) -> Confinement:
    """Return the confinement of a machine that needs next to nothing."""
    grounds = Grounds(("/etc/hosts",), ("/dev/null",), ("/usr",), ("/usr/lib/python",))
    return Confinement(str(folder), grounds, **options)


def config(**sections: Any) -> AgentConfig:
    """Return a configuration with these sections."""
    return AgentConfig.model_validate(sections)


def test_the_defaults_are_the_policy_of_kos(folder: Path) -> None:
    """What an author does not ask for is not allowed."""
    policy = confinement(folder, user=AGENT_ID).policy(config())

    assert policy.mode is Mode.ENFORCE
    assert policy.isolation is Isolation.PROCESS
    assert policy.user == AGENT_ID
    assert policy.read == (str(folder), "/etc/hosts")
    assert policy.write == ("/dev/null", f"{folder}/runtime/cache", f"{folder}/runtime/data")
    assert policy.execute == ("/usr",)
    assert {f"{folder}/runtime", f"{folder}/logs", f"{folder}/secrets"} <= set(policy.hidden)
    assert policy.limits == Limits()
    assert not policy.network.external
    assert not policy.network.connect
    assert not policy.network.listen
    assert not policy.network.allow
    assert not policy.network.unix_sockets


def test_devices_of_gpus_are_for_agents_that_have_some(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with GPUs, an agent that asked for none does not reach them."""
    monkeypatch.setattr(module, "find_gpu_devices", lambda: ("/dev/nvidia0",))
    monkeypatch.setattr(module, "find_gpu_files", lambda: ("/sys/module/nvidia",))
    without = confinement(folder).policy(config())
    given = confinement(folder).policy(config(limits={"gpus": 1}))

    assert without.devices == ()
    assert "/sys/module/nvidia" not in without.read
    assert given.devices == ("/dev/nvidia0",)
    assert "/sys/module/nvidia" in given.read


def test_what_config_yaml_allows_is_added(folder: Path) -> None:
    """Relative paths are the agent's; a folder that has gone since is left out."""
    sandbox = {
        "mode": "report",
        "require": ("user",),
        "read": ("/etc/hostname", "none"),
        "write": ("models",),
        "execute": ("tools",),
        "network": {"allow": ("api.example.com:443",), "listen": (8000,)},
        "limits": {"cpu": 2, "processes": None},
    }
    policy = confinement(folder).policy(config(sandbox=sandbox), connect=(3128,))

    assert policy.mode is Mode.REPORT
    assert policy.require == ("user",)
    assert str(Path("/etc/hostname").resolve()) in policy.read
    assert f"{folder}/none" not in policy.read
    assert f"{folder}/models" in policy.write
    assert f"{folder}/tools" in policy.execute
    assert policy.network.allow == (Destination("api.example.com", 443),)
    assert policy.network.listen == (8000,)
    assert policy.network.connect == (3128,)
    assert policy.limits.cpu_cores == 2
    assert policy.limits.processes is None


def test_what_a_worker_has_put_where_it_may_write_is_not_followed(folder: Path) -> None:
    """A link there must not open what it points to, at the next start."""
    keys = folder.parent / "keys"
    keys.mkdir()
    (folder / "runtime/data/models").symlink_to(keys)
    (folder / "models/more").symlink_to(keys)
    (folder / "runtime/cache/bin").symlink_to(keys)
    sandbox = {
        "read": ("runtime/data/models", "models/more"),
        "write": ("models/more", "models", "runtime/data/models"),
        "execute": ("runtime/cache/bin",),
    }
    policy = confinement(folder).policy(config(sandbox=sandbox))

    granted = (*policy.read, *policy.write, *policy.execute)
    assert str(keys) not in granted
    assert f"{folder}/models" in policy.write


@pytest.mark.parametrize(
    ("worker", "network", "expected"),
    [
        ({}, {}, False),
        ({"isolation": "bwrap"}, {}, True),
        ({"command": ("sh",)}, {}, True),
        ({"command": ("sh",), "notify": False}, {}, False),
        ({}, {"unix_sockets": True}, True),
        ({"isolation": "bwrap"}, {"unix_sockets": False}, False),
    ],
)
def test_sockets_of_the_file_system_are_for_those_who_need_them(
    folder: Path, worker: dict[str, Any], network: dict[str, Any], *, expected: bool
) -> None:
    """They lead to every service of the machine that its user may speak to."""
    policy = confinement(folder).policy(config(worker=worker, sandbox={"network": network}))

    assert policy.network.unix_sockets is expected


@pytest.mark.parametrize(
    ("command", "place"), [("tools/serve", "tools/serve"), ("sh", None), ("no-such-program", "")]
)
def test_the_program_of_a_worker_may_be_executed(
    folder: Path, command: str, place: str | None
) -> None:
    """It may lie in the agent's folder, where nothing else may be executed."""
    (folder / "tools/serve").touch()
    policy = confinement(folder).policy(config(worker={"command": (command,)}))

    if place:
        assert f"{folder}/{place}" in policy.execute
    else:
        assert policy.execute == ("/usr",)


def test_folders_of_secrets_are_hidden_whole(folder: Path) -> None:
    """A mounted secret has its file under another name beside it."""
    for name in ("tls", "link"):
        (folder / name).mkdir()
    asked = config(
        http={"tls": {"certificate": "tls/cert.pem", "key": "tls/key.pem"}},
        snapshots={"destination": "backup"},
        orchestrator={"tls": {"certificate": "link/cert.pem", "key": "link/key.pem"}},
    )
    secluded = find_secluded(str(folder), asked, ["/run/secrets/agent/token"])

    names = ("runtime", "logs", "backup", "secrets", "tls", "link")
    assert secluded.folders == (*(f"{folder}/{name}" for name in names), "/run/secrets/agent")
    assert secluded.files == ()


def test_a_secret_beside_code_is_hidden_alone(folder: Path) -> None:
    """The folder of the entrypoint cannot be hidden, nor one of the machine."""
    (folder / "app").mkdir()
    asked = config(
        entrypoint="app/main.py",
        secrets={"file": "app/vault.json"},
        snapshots={"destination": "s3://bucket/prefix"},
    )
    secluded = find_secluded(str(folder), asked, ["/etc/token"])

    assert secluded.folders == (f"{folder}/runtime", f"{folder}/logs")
    assert secluded.files == (f"{folder}/app/vault.json", "/etc/token")


def test_a_confinement_is_found_on_this_machine(folder: Path) -> None:
    """A token's file is hidden wherever it is; no user is named that the host cannot become."""
    token = folder.parent / "token"
    found = find_confinement(folder, config(), {"AGENT_TOKEN_FILE": str(token)})
    plain = find_confinement(folder, config(worker={"user": "keep"}), {})

    assert found.directory == str(folder.resolve())
    assert found.token_files == (str(token.resolve()),)
    assert plain.token_files == ()
    assert plain.user is None

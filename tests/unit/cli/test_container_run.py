"""What `kos-agent run --isolation container` decides before the engine takes over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.container_run import (
    _write_profile,
    choose_network,
    choose_port,
    find_environment,
    find_mounts,
)
from kagent_sdk.cli.launch import Launch
from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.engine_flags import Mount
from kagent_sdk.deploy.settings import Settings

ALLOWING = {"sandbox": {"network": {"allow": ["example.com:443"]}}}
OPEN = {"sandbox": {"network": {"external": True}}}


def configured(**sections: Any) -> AgentConfig:
    """Return a configuration."""
    return AgentConfig.model_validate({"name": "a", **sections})


def deployed(**sections: Any) -> Deployment:
    """Return an agent of that configuration, ready to deploy."""
    return describe(configured(**sections), "a", Settings())


def mounted(folder: Path, **sections: Any) -> tuple[Mount, ...]:
    """Return the mounts beyond runtime and logs."""
    return find_mounts(folder, configured(**sections), deployed(**sections))[2:]


def test_the_network_is_what_the_policy_needs() -> None:
    """None at all where nothing is to be reached; the caller's word goes over that."""
    assert choose_network(deployed(), None) == "none"
    assert choose_network(deployed(**OPEN), None) is None
    assert choose_network(deployed(**ALLOWING), "mesh") == "mesh"


def test_an_allow_list_takes_a_second_container() -> None:
    """Silent openness is the one thing that must not be; the way out is named."""
    with pytest.raises(UsageError, match="kos-agent export compose"):
        choose_network(deployed(**ALLOWING), None)


@pytest.mark.parametrize("network", ["host", "container:other"])
def test_a_network_is_the_containers_own(network: str) -> None:
    """In the machine's every service that trusts loopback would be in reach."""
    with pytest.raises(UsageError, match="no network of the container's own"):
        choose_network(deployed(), network)


def test_a_port_is_shown_on_loopback_where_there_is_a_network() -> None:
    """--host and --port mean what they mean without a container: where it is reached."""
    agent = deployed(**OPEN)

    assert choose_port(Launch(), agent, None, None) == "127.0.0.1:8080"
    assert choose_port(Launch(host="::1", port=81), agent, None, None) == "[::1]:81"
    assert choose_port(Launch(), agent, "mesh", "mesh") is None
    assert choose_port(Launch(port=81), agent, "mesh", "mesh") == "127.0.0.1:81"
    assert choose_port(Launch(), agent, "none", None) is None


def test_port_0_is_a_free_one() -> None:
    """As without a container; two agents of one folder do not meet."""
    address, _, port = (choose_port(Launch(port=0), deployed(), "m", "m") or "").partition(":")

    assert address == "127.0.0.1"
    assert int(port) > 0


def test_a_port_without_a_network_is_an_error() -> None:
    """The engine would drop the flag and say nothing."""
    with pytest.raises(UsageError, match="kos-agent call -C DIR"):
        choose_port(Launch(port=81), deployed(), "none", None)


def test_what_the_agent_keeps_lies_in_its_folder(tmp_path: Path) -> None:
    """As without a container: what one writes the other finds."""
    assert find_mounts(tmp_path, configured(), deployed()) == (
        Mount(f"{tmp_path}/runtime", "/agent/runtime"),
        Mount(f"{tmp_path}/logs", "/agent/logs"),
    )


def test_what_the_policy_lets_it_write_is_seen_inside(tmp_path: Path) -> None:
    """A folder of the agent's moves with it, another stays where it is; one must be there."""
    (tmp_path / "models").mkdir()
    sections = {"sandbox": {"write": ["models", str(tmp_path)]}}

    assert mounted(tmp_path, **sections) == (
        Mount(f"{tmp_path}/models", "/agent/models"),
        Mount(str(tmp_path), str(tmp_path)),
    )
    with pytest.raises(UsageError, match=r'there is no ".*gone"; make it first'):
        mounted(tmp_path, sandbox={"write": ["gone"]})


def test_secrets_are_seen_read_only(tmp_path: Path) -> None:
    """The vault's folder, and the files of TLS that are not in it: the image has none of them."""
    for name in ("secrets/vault.json", "tls/key.pem", "secrets/certificate.pem"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tls = {"certificate": "secrets/certificate.pem", "key": "tls/key.pem"}

    assert mounted(tmp_path, http={"tls": tls}) == (
        Mount(f"{tmp_path}/secrets", "/agent/secrets", is_writable=False),
        Mount(f"{tmp_path}/tls/key.pem", "/agent/tls/key.pem", is_writable=False),
    )
    assert mounted(tmp_path, http={"auth": "none"}) == ()


def test_a_name_that_no_engine_can_mount_is_an_error(tmp_path: Path) -> None:
    """A colon in the folder's name would be an option of the mount."""
    folder = tmp_path / "a:rw"

    with pytest.raises(UsageError, match="leave ':' and ',' out"):
        find_mounts(folder, configured(), deployed())


def test_variables_of_the_configuration_are_handed_on() -> None:
    """By name, so that no value stands in a list of processes."""
    environ = {
        "AGENT_LOGS__LEVEL": "debug",
        "AGENT_CONFIG": "other.yaml",
        "AGENT_UNKNOWN": "1",
        "HOME": "/root",
    }

    assert find_environment(environ, Launch(workers=2), "main.py") == (
        ("AGENT_CONFIG", None),
        ("AGENT_LOGS__LEVEL", None),
        ("AGENT_WORKER__COUNT", "2"),
        ("AGENT_ENTRYPOINT", "main.py"),
    )


def test_a_token_that_the_container_cannot_see_is_an_error() -> None:
    """Without it the agent would listen inside alone, and nobody would know why."""
    with pytest.raises(UsageError, match="put the token into the vault"):
        find_environment({"AGENT_TOKEN_FILE": "/t"}, Launch(), None)


def test_replicas_that_start_at_once_write_the_same_profile_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` starts them from threads of one process; one that lost the race was not started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    start = Barrier(8)

    def write(_number: int) -> list[Path]:
        start.wait()
        return [_write_profile("{}") for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        written = {path for paths in pool.map(write, range(8)) for path in paths}

    assert [path.read_text() for path in written] == ["{}"]
    assert list(tmp_path.joinpath("kagent-sdk").iterdir()) == list(written)

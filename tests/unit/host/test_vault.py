"""The vault: the right secrets to the worker, and not one value anywhere else."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from kagent_sdk.config.models import SecretsConfig
from kagent_sdk.errors import VaultError
from kagent_sdk.host.vault import MAX_VALUES, Vault, read_vault

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = {
    "openai_api_key": "sk-hunter2",
    "agent_token": "a-token-of-the-agent",
    "db": {"password": "hunter2", "port": 5432, "hosts": ["a"]},
    "a.b": "exact",
    "a": {"b": "nested"},
    "nothing": None,
    "ratio": 0.5,
}


def write(folder: Path, content: bytes) -> None:
    """Write a vault as it should be kept."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / "vault.json").write_bytes(content)
    (folder / "secrets" / "vault.json").chmod(0o600)


def read(folder: Path, *names: str) -> Vault:
    """Read the vault as the host does."""
    return read_vault(folder, SecretsConfig(expose=names))


def test_exposed_secrets_are_found_by_key_and_by_path(tmp_path: Path) -> None:
    """`secrets.expose` is the whole interface: what is not named there stays here."""
    write(tmp_path, json.dumps(CONTENT).encode())
    names = ("openai_api_key", "db.password", "db.port", "a.b", "nothing", "db.password")

    assert read(tmp_path, *names).exposed(names) == {
        "openai_api_key": "sk-hunter2",
        "db.password": "hunter2",
        "db.port": 5432,
        "a.b": "exact",
        "nothing": None,
    }


def test_a_whole_part_may_be_exposed() -> None:
    """A database's settings belong together."""
    assert Vault(CONTENT).exposed(["db"]) == {"db": CONTENT["db"]}


def test_the_token_is_the_hosts_own(tmp_path: Path) -> None:
    """A worker with the agent's token could cancel other callers' tasks."""
    write(tmp_path, json.dumps(CONTENT).encode())

    assert read(tmp_path).token == CONTENT["agent_token"]
    with pytest.raises(VaultError, match="must not name agent_token"):
        read(tmp_path, "agent_token")


def test_a_token_must_be_a_string() -> None:
    """12345 would never match what a client sends."""
    assert Vault({}).token is None
    with pytest.raises(VaultError, match="must be a string") as caught:
        _ = Vault({"agent_token": 12345}).token
    assert "12345" not in str(caught.value)


def test_without_a_file_the_vault_is_empty(tmp_path: Path) -> None:
    """Most agents start without one."""
    vault = read(tmp_path)

    assert not vault.is_present
    assert vault.token is None
    assert vault.exposed(()) == {}


def test_missing_secrets_are_all_named_at_the_start(tmp_path: Path) -> None:
    """A KeyError in the middle of the night is what this prevents."""
    with pytest.raises(VaultError, match=r"x, y, but there is no secrets/vault.json"):
        read(tmp_path, "x", "y")
    write(tmp_path, json.dumps(CONTENT).encode())
    with pytest.raises(VaultError, match=r"does not have: db.user, db.port.x, x") as caught:
        read(tmp_path, "db.user", "db.password", "db.port.x", "x")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not valid JSON"),
        (b'{"k": "hunter2"', "is not valid JSON"),
        (b'{"k": "hunter2",}', "is not valid JSON"),
        (b'{"k": hunter2}', "is not valid JSON"),
        (b'{"k": NaN}', "is not valid JSON"),
        (b'{"k": "hunter2\xff"}', "is not valid JSON"),
        (b'{"k": "hunter2\\ud800"}', "is not valid JSON"),
        (b"[" * 1000, "is not valid JSON"),
        (b'["hunter2"]', "must be a JSON object"),
        (b'"hunter2"', "must be a JSON object"),
        (b'{"hunter2": 1, "hunter2": 2}', "has a key twice"),
        (b'{"a": {"hunter2": 1, "hunter2": 2}}', "has a key twice"),
        (b'{"k": 1e999}', "a number that is too large"),
    ],
)
def test_a_malformed_vault_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """The message goes to the log, and the log to people who must not know the secrets."""
    write(tmp_path, content)

    with pytest.raises(VaultError, match=reason) as caught:
        read(tmp_path)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_is_required_is_checked_at_the_start(tmp_path: Path) -> None:
    """The host's own secrets count too, which nothing exposes."""
    write(tmp_path, json.dumps(CONTENT).encode())

    config = SecretsConfig(required=("db.password", "agent_token"))
    assert read_vault(tmp_path, config).is_present
    with pytest.raises(VaultError, match=r"required names what .* does not have: db.x, y"):
        read_vault(tmp_path, SecretsConfig(required=("db.x", "db.password", "y")))


def test_every_value_is_a_text_by_its_path() -> None:
    """What is taken out of the logs is each value, however deep it lies."""
    content = {"a": {"b": ["one", {"c": "two"}], "d": None, "e": True}, "a.b.0": "three", "n": 1.5}

    assert Vault(content).texts() == {
        "a.b.0": "one",
        "a.b.1.c": "two",
        "a.b.0_": "three",
        "n": "1.5",
    }


def test_too_many_values_are_refused(tmp_path: Path) -> None:
    """All of them are searched for in every line."""
    write(tmp_path, json.dumps({"list": ["x"] * (MAX_VALUES + 1)}).encode())

    with pytest.raises(VaultError, match="holds more than 2000 values"):
        read(tmp_path)


def test_vaults_are_equal_by_content() -> None:
    """A file that was written again with the same content is no rotation."""
    assert Vault({"a": 1}) == Vault({"a": 1}, file="other")
    assert Vault({"a": 1}) != Vault({"a": True})
    assert Vault({}) != Vault({}, is_present=False)
    assert Vault({}) != {}


@pytest.mark.parametrize("wanted", [None, True, False])
def test_a_vault_that_the_agent_could_change_is_refused_where_a_mount_is_wanted(
    tmp_path: Path, wanted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an image everything has one user: what the host may write, a break-out may too."""
    write(tmp_path, b"{}")
    config = SecretsConfig(read_only_mount=wanted)
    refused = pytest.raises(VaultError, match="changed or replaced by the agent's own user")

    with refused if wanted else nullcontext():
        read_vault(tmp_path, config)
    monkeypatch.setattr("kagent_sdk.host.vault.IMAGE_FOLDER", tmp_path)
    with refused if wanted is not False else nullcontext():
        read_vault(tmp_path, config)


def test_a_vault_shows_no_value_and_cannot_be_copied() -> None:
    """Objects end up in logs, debuggers and pickles by accident."""
    vault = Vault(CONTENT)

    assert repr(vault) == str(vault) == "Vault(7 keys)"
    assert not hasattr(vault, "__dict__")
    copiers: list[Any] = [copy.copy, copy.deepcopy, pickle.dumps]
    for copier in copiers:
        with pytest.raises(TypeError, match="not to be copied"):
            copier(vault)

"""A link that cannot be is told at the start, by the key that is wrong; and no token is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.config.orchestrator import OrchestratorConfig
from kagent_sdk.errors import ConfigError
from kagent_sdk.host import link_checks
from kagent_sdk.host.link_checks import (
    check_link,
    link_settings,
    load_link_token,
    token_files,
)
from kagent_sdk.host.vault import Vault

TOKEN = "0123456789-a.b_c~d+e/f=="  # noqa: S105 - of these tests
LINK = OrchestratorConfig(url="http://o.example:8080")


def make(**orchestrator: object) -> AgentConfig:
    """Return a configuration with a link."""
    return AgentConfig.model_validate(
        {"orchestrator": {"url": "https://o.example", **orchestrator}}
    )


def write(file: Path, content: str) -> dict[str, str]:
    """Write a token into a file, and return the environment that names it."""
    file.write_text(content)
    file.chmod(0o600)
    return {"AGENT_ORCHESTRATOR_TOKEN_FILE": str(file)}


def test_the_token_is_in_the_vault_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    """As for the agent's own token; the file wins."""
    vault = Vault({"orchestrator_token": TOKEN, "other": "other-" + TOKEN})
    other = LINK.model_copy(update={"token": "other"})

    assert load_link_token(vault, LINK, {}) == TOKEN
    assert load_link_token(vault, other, {}) == "other-" + TOKEN
    assert load_link_token(vault, LINK, write(tmp_path / "t", f"file-{TOKEN}\n")) == f"file-{TOKEN}"
    assert load_link_token(Vault({}), LINK, {}) is None


def test_without_an_orchestrator_nothing_is_looked_for() -> None:
    """A variable that is set for all agents of a machine is no fault of this one."""
    environ = {"AGENT_ORCHESTRATOR_TOKEN_FILE": "/nowhere"}

    assert load_link_token(Vault({}), OrchestratorConfig(), environ) is None
    assert token_files(OrchestratorConfig(), environ) == []
    assert token_files(LINK, environ) == ["/nowhere"]
    check_link(AgentConfig(), Path("/nowhere"))


@pytest.mark.parametrize(
    ("value", "said"), [("short", "16 characters"), (TOKEN + "\n x", "letters"), (7, "a string")]
)
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(value: object, said: str) -> None:
    """It would be refused there, an hour later."""
    with pytest.raises(ConfigError, match=said) as caught:
        load_link_token(Vault({"orchestrator_token": value}), LINK, {})

    assert TOKEN not in str(caught.value)


def test_the_worker_does_not_get_the_token() -> None:
    """With it the author's code could speak for the host."""
    config = make().model_copy(
        update={
            "secrets": AgentConfig().secrets.model_copy(update={"expose": ("orchestrator_token",)})
        }
    )
    with pytest.raises(ConfigError, match=r"secrets\.expose must not name orchestrator_token"):
        check_link(config, Path("/"))


def test_a_missing_extra_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a traceback of an import."""
    monkeypatch.setattr(link_checks, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'kagent-sdk\[nats\]'"):
        check_link(make(url="nats://o.example:4222"), Path("/"))
    check_link(make(), Path("/"))


def test_the_files_of_tls_are_the_agents_own(tmp_path: Path) -> None:
    """Their paths are relative to its folder, wherever the command was given."""
    (tmp_path / "ca.pem").touch()
    config = make(tls={"ca": "ca.pem", "certificate": "me.pem", "key": "/etc/me.key"})
    with pytest.raises(
        ConfigError, match=r"orchestrator\.tls\.certificate: me\.pem cannot be read"
    ):
        check_link(config, tmp_path)
    tls = link_settings(config, tmp_path).tls

    assert tls is not None
    assert (tls.ca, tls.certificate) == (tmp_path / "ca.pem", tmp_path / "me.pem")
    assert tls.key == Path("/etc/me.key")


def test_a_link_is_told_what_it_needs() -> None:
    """And nothing else of the configuration."""
    settings = link_settings(make(delivery="pull", heartbeat_s=2, timeout_s=3), Path("/"))

    assert (settings.url, settings.delivery) == ("https://o.example", "pull")
    assert (settings.heartbeat_s, settings.timeout_s, settings.tls) == (2, 3, None)
    assert settings.max_body_bytes == AgentConfig().http.max_body_bytes

"""Which token makes an operator, and where it is kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kagent_sdk.errors import ConfigError, OrchestratorError
from kagent_sdk.orchestrator.http.auth import Roles
from kagent_sdk.orchestrator.operator_token import keep_operator_token
from kagent_sdk.protocol.problem import RequestError

CONFIGURED = "configured-token-0123456789"


def test_a_token_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    """A restart must not lock out whoever has noted it; nobody else may read it."""
    data = tmp_path / "deep" / ".kos-mesh"
    first, second = keep_operator_token(data, None), keep_operator_token(data, None)
    file = data / "operator-token"

    assert first == second == file.read_text()
    assert len(first) >= 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in data.iterdir()] == ["operator-token"]


def test_of_two_that_begin_at_once_both_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them will not get the folder: it must not change the token of the one that does."""
    real = os.link

    def link(source: Path, target: Path, **options: bool) -> None:
        other = tmp_path / "other"
        other.write_text(CONFIGURED)
        other.chmod(0o600)
        other.rename(target)
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)

    assert keep_operator_token(tmp_path, None) == CONFIGURED
    assert [path.name for path in tmp_path.iterdir()] == ["operator-token"]


def test_with_a_configured_token_none_is_made_and_an_old_one_goes(tmp_path: Path) -> None:
    """The commands would show the old one, which opens nothing; a copy of the configured one stays."""
    data = tmp_path / ".kos-mesh"
    before = data.exists()
    keep_operator_token(data, CONFIGURED)
    unmade = data.exists()
    keep_operator_token(data, None)
    keep_operator_token(data, CONFIGURED)
    file = data / "operator-token"
    gone = not file.exists()
    file.write_text(f"{CONFIGURED}\n")
    file.chmod(0o600)

    assert keep_operator_token(data, CONFIGURED) == CONFIGURED
    assert (before, unmade, gone, file.exists()) == (False, False, True, True)


@pytest.mark.parametrize(("content", "mode"), [("t" * 32, 0o644), ("short", 0o600), ("", 0o600)])
def test_a_file_that_does_not_protect_is_refused(tmp_path: Path, content: str, mode: int) -> None:
    """What others can read, or guess, makes everybody an operator."""
    file = tmp_path / "operator-token"
    file.write_text(content)
    file.chmod(mode)

    with pytest.raises(ConfigError, match=r"operator-token (is open to every user|must have 16)"):
        keep_operator_token(tmp_path, None)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    """A wrong --data is the user's to mend, by a message."""
    (tmp_path / "data").touch()

    with pytest.raises(OrchestratorError, match="data: it is no folder"):
        keep_operator_token(tmp_path / "data", None)


def test_where_agents_need_no_token_they_do_what_agents_do_and_no_more() -> None:
    """Agents that call each other send tasks; an orchestrator's own token must not lock them out."""
    roles = Roles(None, CONFIGURED)
    local = {"Host": "127.0.0.1:8080"}
    for route in ("/v1/link/agents", "/v1/tasks", "/v1/capabilities"):
        roles.check(route, local)
    refused = []
    for route in ("/status", "/v1/shutdown", "/v1/fleet", "/v1/agents"):
        with pytest.raises(RequestError) as error:
            roles.check(route, local)
        refused.append(error.value.problem.status)
    with pytest.raises(RequestError):
        roles.check("/v1/tasks", {**local, "Origin": "https://evil.example"})

    assert refused == [401] * 4

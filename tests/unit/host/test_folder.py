"""What an agent's folder gives to run: an entrypoint, a program, or the script of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host import folder
from kagent_sdk.host.folder import AgentFolder, with_start_script

SCRIPT = Path("/app/start.sh")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an executable script that stands for the one of the image."""
    path = tmp_path / "app" / "start.sh"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(folder, "START_SCRIPT", path)
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Return an empty folder."""
    path = tmp_path / "agent"
    path.mkdir()
    return path


def test_a_script_is_a_command_that_need_not_notify() -> None:
    """A plain script should simply work; what lies beside it is its own to run."""
    config = with_start_script(AgentConfig(), SCRIPT)

    assert config.worker.command == ("/app/start.sh",)
    assert config.worker.notify is False
    assert config.sandbox.execute == ("/app",)


def test_a_script_that_notifies_says_so() -> None:
    """worker.notify is as configured, where it is configured."""
    config = AgentConfig.model_validate({"worker": {"notify": True}})

    assert with_start_script(config, SCRIPT).worker.notify is True


@pytest.mark.parametrize("what", [{"worker": {"command": ["sh"]}}, {"entrypoint": "main.py"}])
def test_what_is_configured_is_run_and_nothing_else(what: dict[str, object]) -> None:
    """A wrong name must be an error, not another program."""
    config = AgentConfig.model_validate(what)

    assert with_start_script(config, SCRIPT) is config


def test_the_script_stands_in_for_a_missing_entrypoint(agent: Path, script: Path) -> None:
    """An image with /app/start.sh needs no line of Python."""
    found = AgentFolder(agent, {})
    config = found.read_config().config
    found.check_entrypoint(config)

    assert config.worker.command == (str(script),)


@pytest.mark.usefixtures("script")
def test_an_entrypoint_wins(agent: Path) -> None:
    """The script is what is left where there is no entrypoint."""
    (agent / "entrypoint.py").touch()

    assert AgentFolder(agent, {}).read_config().config.worker.command is None


def test_both_ways_are_named_where_there_is_nothing(agent: Path, script: Path) -> None:
    """Whoever wrote a script and forgot its mode learns that."""
    found = AgentFolder(agent, {})
    script.chmod(0o644)
    config = found.read_config().config
    with pytest.raises(StartupError, match=r"entrypoint.py is not in .* or make .* executable"):
        found.check_entrypoint(config)
    script.unlink()

    with pytest.raises(StartupError, match="or put an executable script at"):
        found.check_entrypoint(config)

"""Tests of `kagent_sdk.cli.commands.init`."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import yaml

from kagent_sdk import __version__
from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.commands.init import TEMPLATES, make_agent, template_files
from kagent_sdk.cli.main import main
from kagent_sdk.config.models import AgentConfig

FILES = [
    ".gitignore",
    "README.md",
    "config.yaml",
    "entrypoint.py",
    "pytest.ini",
    "requirements.txt",
    "tests/test_agent.py",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_a_whole_agent(template: str, tmp_path: Path) -> None:
    """Its configuration is valid, its code parses, no placeholder is left."""
    written = make_agent(tmp_path / "my-agent", template)

    assert written == FILES
    config = yaml.safe_load((tmp_path / "my-agent" / "config.yaml").read_text())
    assert AgentConfig.model_validate(config).name == "my-agent"
    for path in written:
        text = (tmp_path / "my-agent" / path).read_text()
        assert "AGENT_NAME" not in text
        assert "SDK_VERSION" not in text
        if path.endswith(".py"):
            ast.parse(text)


def test_the_requirement_is_the_version_that_made_the_agent(tmp_path: Path) -> None:
    """Another machine must not get an older one."""
    make_agent(tmp_path / "a", "hello")

    assert f"kagent-sdk>={__version__}" in (tmp_path / "a" / "requirements.txt").read_text()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    """Somebody's work is in it."""
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(UsageError, match="is not empty"):
        make_agent(tmp_path, "hello")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UsageError, match="is a file"):
        make_agent(tmp_path / "notes.txt", "hello")


def test_an_empty_repository_is_taken(tmp_path: Path) -> None:
    """`git init` first is as good an order as any."""
    (tmp_path / ".git").mkdir()

    assert make_agent(tmp_path, "hello") == FILES


@pytest.mark.parametrize("name", ["bad name", "-x", "x.", "a" * 64, "ä"])
def test_a_name_that_no_agent_can_have_is_refused(name: str, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match="cannot name an agent"):
        make_agent(tmp_path / name, "hello")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a" * 63, "my_agent.v2-x"])
def test_the_names_are_those_that_the_configuration_takes(name: str, tmp_path: Path) -> None:
    """Two patterns in two places must stay one."""
    make_agent(tmp_path / name, "hello")

    assert AgentConfig(name=name).name == name


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A path through a file is no folder, also to root."""
    (tmp_path / "file").touch()

    with pytest.raises(CommandError, match=r"cannot write to|is a file"):
        make_agent(tmp_path / "file" / "agent", "hello")


def test_the_next_steps_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each can be copied as it is."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["init", "my-agent"])

    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for line in ("kos-agent run my-agent", "kos-agent call greet name=Ada -C my-agent"):
        assert f"\n  {line}\n" in shown


def test_a_program_gets_the_list_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To commit them, say."""
    with pytest.raises(SystemExit):
        main(["init", str(tmp_path / "a"), "--json"])

    assert json.loads(capsys.readouterr().out) == {"folder": str(tmp_path / "a"), "files": FILES}


def test_the_template_has_nothing_that_git_or_the_wheel_would_drop() -> None:
    """A .gitignore inside the package would hide files of the template itself."""
    assert all(not source.name.startswith(".") for _path, source in template_files("hello"))

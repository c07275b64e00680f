"""Tests of `kagent_sdk.testing.settings` and `kagent_sdk.testing.loading`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk import Agent, ConfigError, StartupError
from kagent_sdk.config import AgentConfig, load_config
from kagent_sdk.testing import AgentHarness, load_agent
from kagent_sdk.testing.settings import as_environment, find_agent

ENTRYPOINT = """
from __future__ import annotations
from beside import GREETING
from pydantic import BaseModel
from kagent_sdk import Agent

agent = Agent()

class Greeting(BaseModel):
    text: str

@agent.capability
async def greet(name: str) -> Greeting:
    return Greeting(text=f"{GREETING}, {name}!")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write an agent with a module beside its entrypoint."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "entrypoint.py").write_text(ENTRYPOINT)
    (tmp_path / "beside.py").write_text("GREETING = 'Good day'")
    (tmp_path / "config.yaml").write_text("name: greeter\ntasks:\n  max_queue: 7\n")
    yield tmp_path
    sys.modules.pop("beside", None)


async def test_an_agent_is_found_in_its_folder(folder: Path) -> None:
    """With what stands beside it, and once however often it is asked for."""
    async with AgentHarness(folder) as harness:
        assert await harness.call("greet", name="Ada") == {"text": "Good day, Ada!"}

    assert load_agent(folder) is load_agent(folder)


def test_a_mapping_goes_over_the_file_of_the_folder(folder: Path) -> None:
    """The rest of the file counts."""
    config, _ = find_agent(folder, {"tasks": {"max_concurrency": 2}})
    as_it_is, _ = find_agent(folder, None)
    other, _ = find_agent(folder, AgentConfig(name="other"))

    assert (config.name, config.tasks.max_queue, config.tasks.max_concurrency) == ("greeter", 7, 2)
    assert as_it_is.tasks.max_queue == 7
    assert other.name == "other"


def test_what_is_no_agent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no agent in it, one that raises, a configuration that is none."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(StartupError, match=r"there is no entrypoint\.py"):
        load_agent(tmp_path)
    (tmp_path / "entrypoint.py").write_text("x = 1")
    with pytest.raises(StartupError, match="has 0 agents"):
        load_agent(tmp_path)
    (tmp_path / "other.py").write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_agent(tmp_path, "other.py")
    with pytest.raises(ConfigError, match="max_queu"):
        AgentHarness(Agent(), config={"tasks": {"max_queu": 1}})


def test_the_environment_says_what_the_mapping_says(tmp_path: Path) -> None:
    """Sections are walked through; a value that is a mapping itself is one value."""
    (tmp_path / "config.yaml").write_text("name: a\n")
    environment = as_environment(
        {
            "name": "greeter",
            "tasks": {"max_queue": 3},
            "sandbox": {"network": {"allow": ["api.example.com:443"]}},
            "orchestrator": {"labels": {"zone": "a"}, "url": None},
        }
    )
    config = load_config(tmp_path, environ=environment)

    assert (config.name, config.tasks.max_queue) == ("greeter", 3)
    assert config.orchestrator.labels == {"zone": "a"}
    assert config.sandbox.network.allow
    assert as_environment({"tusks": {"max": 1}}) == {"AGENT_TUSKS__MAX": "1"}

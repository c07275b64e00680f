"""Tests of `kagent_sdk.config.read_sandbox_file`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.config import AgentConfig, read_sandbox_file
from kagent_sdk.errors import ConfigError

SANDBOX = "mode: report\nnetwork:\n  listen: [8081]\n"


@pytest.mark.parametrize(
    "text", [SANDBOX, "sandbox:\n" + "".join(f"  {line}\n" for line in SANDBOX.splitlines())]
)
def test_the_section_on_the_sandbox_may_stand_in_a_file_of_its_own(
    tmp_path: Path, text: str
) -> None:
    """It is copied out of a config.yaml, with its key or without."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    config = read_sandbox_file(path)

    assert config.sandbox.mode == "report"
    assert config.sandbox.network.listen == (8081,)
    assert config.model_copy(update={"sandbox": AgentConfig().sandbox}) == AgentConfig()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "mode: report\nnetwork:\n  lisen: [1]\n",
            "policy.yaml:3: network.lisen: unknown key; did you mean listen?",
        ),
        (
            "sandbox:\n  network: {listen: [0]}\n",
            "policy.yaml:2: sandbox.network.listen[0]: should be greater than or equal to 1 (is 0)",
        ),
        (
            "network:\n  listen: [0]\n",
            "policy.yaml:2: network.listen[0]: should be greater than or equal to 1 (is 0)",
        ),
        ("[]", "policy.yaml:1: should be a mapping of keys, such as `name: my-agent`"),
        ("mode: report\nmode: enforce\n", "policy.yaml:2: mode: is there twice, first on line 1"),
    ],
)
def test_what_is_wrong_in_such_a_file_names_its_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    """The keys are those that stand there."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_sandbox_file(path)

    assert problem in str(caught.value)


@pytest.mark.parametrize("text", ["mode: off", 'mode: "off"'])
def test_off_is_a_word_with_quotes_and_without(tmp_path: Path, text: str) -> None:
    """YAML 1.1 takes the plain word for false."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    assert read_sandbox_file(path).sandbox.mode == "off"


def test_a_file_on_the_sandbox_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    """It was named."""
    with pytest.raises(ConfigError, match=r"policy\.yaml: does not exist, but it is named"):
        read_sandbox_file(tmp_path / "policy.yaml")

"""The script of `kos-agent export docker-run`, by what a shell makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.docker_run import render
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.settings import Settings, read_settings
from kagent_sdk.errors import DeployError

ALLOWING = {"sandbox": {"network": {"allow": ["example.com:443"]}}}
OPEN = {"sandbox": {"network": {"external": True}}}
KEYED = {"secrets": {"expose": ["k"]}}


def rendered(config: dict[str, Any] | None = None, settings: Settings | None = None) -> Rendering:
    """Return the script of an agent with that configuration."""
    model = AgentConfig.model_validate({"name": "a", **(config or {})})
    return render(describe(model, "a", settings or Settings()))


def calls(rendering: Rendering, folder: Path, *words: str) -> list[list[str]]:
    """Run the script with an engine that only writes down what it is asked for."""
    for name, text in rendering.files.items():
        (folder / name).write_text(text)
    record = folder / "record"
    for engine in ("podman", "docker"):
        program = folder / engine
        # `network inspect` fails as for a network that is not there.
        program.write_text(
            f"#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >>'{record}'\n"
            f"echo END >>'{record}'\n[ \"$2\" != inspect ]\n"
        )
        program.chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    script = [shell, str(folder / "run.sh"), *words]
    subprocess.run(script, check=True, env={"PATH": f"{folder}:/usr/bin:/bin"})
    return [call.splitlines() for call in record.read_text().split("END\n") if call]


def test_the_script_starts_the_container_with_the_flags(tmp_path: Path) -> None:
    """What is printed is what is run: quoted right, and with the words of the caller."""
    folder = tmp_path / "a b"
    folder.mkdir()
    [run] = calls(rendered(KEYED), folder, "--detach")

    assert run[:3] == ["run", "--rm", "--pull=never"]
    assert "--detach" in run
    assert run[-1] == "a:0.1.0"
    assert f"--security-opt=seccomp={folder}/seccomp.json" in run
    assert f"--volume={folder}/secrets:/agent/secrets:ro,noexec,nosuid,nodev" in run
    assert "--volume=a-runtime:/agent/runtime:rw,noexec,nosuid,nodev" in run
    assert "--network=none" in run


def test_the_profile_lies_beside_the_script() -> None:
    """Without it the script would not start anything."""
    rendering = rendered()

    assert rendering.main == "run.sh"
    assert rendering.programs == {"run.sh"}
    assert json.loads(rendering.files["seccomp.json"])["defaultAction"] == "SCMP_ACT_ERRNO"


def test_an_agent_with_an_allow_list_goes_out_by_a_second_container(tmp_path: Path) -> None:
    """It is on a network without a way out; only the second one is on both."""
    found = calls(rendered(ALLOWING | KEYED), tmp_path)
    made = [call for call in found if call[:2] == ["network", "create"]]
    egress, agent = (call for call in found if call[0] == "run")

    assert made == [
        ["network", "create", "--internal", "a-private"],
        ["network", "create", "a-outside"],
    ]
    assert [word for word in agent if word.startswith("--network")] == ["--network=a-private"]
    assert "--env=AGENT_SANDBOX__NETWORK__UPSTREAM=a-egress:3128" in agent
    assert [word for word in egress if word.startswith("--network")] == [
        "--network=a-private",
        "--network=a-outside",
    ]
    assert not [word for word in egress if word.startswith(("--volume", "--mount"))]
    assert {"--read-only", "--cap-drop=ALL", "--user=1000:1000"} <= set(egress)
    image = egress.index("a:0.1.0")
    assert egress[image + 1 :] == ["sandbox", "egress", "/agent", "--listen", "0.0.0.0:3128"]


def test_a_port_is_shown_of_a_network_that_could(tmp_path: Path) -> None:
    """On 127.0.0.1, unless another address is said."""
    [run] = calls(rendered(OPEN, read_settings(["publish=8080"])), tmp_path)
    named = rendered(settings=read_settings(["publish=8080", "network=mesh"]))

    assert "--publish=127.0.0.1:8080:8080" in run
    assert "--network=mesh" in named.files["run.sh"]


@pytest.mark.parametrize("config", [{}, ALLOWING])
def test_a_port_opens_no_way_out(config: dict[str, Any]) -> None:
    """A network that shows ports also leads out: that is for a person to decide."""
    with pytest.raises(DeployError, match="set network=NAME"):
        rendered(config, read_settings(["publish=8080"]))


def test_without_a_port_it_is_said_how_to_call() -> None:
    """Otherwise the agent would seem to be out of reach."""
    text = rendered().files["run.sh"]

    assert "podman exec a kos-agent status" in text


def test_docker_is_told_what_it_knows(tmp_path: Path) -> None:
    """With --set engine=docker the script differs in what the two do not share."""
    [run] = calls(rendered(settings=read_settings(["engine=docker"])), tmp_path)

    assert "--volume=a-runtime:/agent/runtime:rw" in run
    assert "--read-only-tmpfs=false" not in run


def test_a_note_says_where_the_vault_belongs() -> None:
    """The script has it mounted: without the folder the engine refuses."""
    [note] = rendered(settings=read_settings(["vault=/srv/v"])).notes

    assert note.startswith("the vault is vault.json in /srv/v")
    assert rendered({"http": {"auth": "none"}}).notes == ()


def test_nothing_is_kept_where_that_is_said(tmp_path: Path) -> None:
    """An ephemeral volume goes with the container."""
    [run] = calls(rendered(settings=read_settings(["storage=ephemeral"])), tmp_path)

    assert "--mount=type=volume,destination=/agent/runtime,noexec,nosuid,nodev" in run


def test_a_setting_is_a_word_and_no_program(tmp_path: Path) -> None:
    """What stands behind --set reaches the engine as it is."""
    evil = "/x$(touch pwned)'`\"; $here"
    [run] = calls(rendered(KEYED, read_settings([f"vault={evil}"])), tmp_path)

    assert f"--volume={evil}:/agent/secrets:ro,noexec,nosuid,nodev" in run
    assert not Path("pwned").exists()

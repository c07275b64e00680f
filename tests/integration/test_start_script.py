"""An agent without an entrypoint runs the script of its image."""

from __future__ import annotations

from pathlib import Path

from tests.agents import running_agent
from tests.integration.waiting import wait_until

# The path is a constant of the host: nothing of the machine that runs the tests lies there.
LAUNCH = """
import pathlib, sys
from kagent_sdk.host import folder
folder.START_SCRIPT = pathlib.Path(sys.argv.pop(1))
sys.argv[1:] = ["run", *sys.argv[1:]]
from kagent_sdk.cli.entry import main
main()
"""


def test_a_script_of_the_image_is_supervised(tmp_path: Path) -> None:
    """It needs no Python and no protocol: it runs confined, is ready, and is stopped."""
    app, agent_folder = tmp_path / "app", tmp_path / "agent"
    app.mkdir()
    agent_folder.mkdir()
    tool = app / "tool"
    tool.write_text("#!/bin/sh\necho from the tool >runtime/data/said\n")
    script = app / "start.sh"
    script.write_text(f"#!/bin/sh\n{tool}\ntouch {app}/changed\nexec sleep 1000\n")
    for program in (tool, script):
        program.chmod(0o755)

    said = agent_folder / "runtime/data/said"
    arguments = ["-c", LAUNCH, str(script), str(agent_folder)]
    with running_agent(agent_folder, arguments=arguments) as agent:
        wait_until(said.exists)
        wait_until(lambda: said.read_text() != "")

        assert said.read_text() == "from the tool\n"
        assert agent.status()["processes"][1]["state"] == "ready"
        assert not (app / "changed").exists()

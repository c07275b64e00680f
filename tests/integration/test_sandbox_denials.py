"""Tests of what an author reads when the sandbox refuses something: a real agent, really confined."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagent_sdk.testing import AgentFailedError
from tests.agents import running_agent

ENTRYPOINT = """
import socket, subprocess
from pathlib import Path
from kagent_sdk import Agent

agent = Agent()

@agent.capability
def write(path: str) -> int:
    return Path(path).write_text("x")

@agent.capability
def read(path: str) -> str:
    return Path(path).read_text()

@agent.capability
def find(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, 5432)]

@agent.capability
def listen(port: int) -> None:
    socket.create_server(("127.0.0.1", port)).close()

@agent.capability
async def serve(port: int) -> None:
    import asyncio
    await asyncio.start_server(lambda *_: None, "127.0.0.1", port)

@agent.capability
def datagram() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

@agent.capability
def run(path: str) -> None:
    subprocess.run([path], check=True)

if __name__ == "__main__":
    agent.run()
"""


def make_agent(folder: Path, top: str = "") -> Path:
    """Make an agent that does what it is asked to."""
    folder.mkdir()
    (folder / "entrypoint.py").write_text(
        ENTRYPOINT.replace("agent = Agent()", f"agent = Agent()\n{top}")
    )
    (folder / "data.txt").write_text("data")
    return folder


def test_each_refusal_is_in_the_log_with_the_line_that_allows_it(tmp_path: Path) -> None:
    """`Permission denied` alone costs an author an hour."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("text")
    (outside / "program").write_text("#!/bin/sh\\n")
    (outside / "program").chmod(0o755)
    cases = [
        ("write", outside / "new", "written", f'sandbox: {{write: ["{outside}"]}}'),
        ("read", outside / "file", "read", f'sandbox: {{read: ["{outside}/file"]}}'),
        ("run", outside / "program", "executed", f'sandbox: {{execute: ["{outside}/program"]}}'),
        ("write", "data.txt", "written", "write below runtime/data instead"),
    ]
    with running_agent(make_agent(tmp_path / "agent")) as agent:
        for capability, path, verb, line in cases * 2:
            answer = agent.post(f"/v1/capabilities/{capability}", {"path": str(path)})
            assert answer.status == 500, answer.body
            record = agent.wait_logged("sandbox_denied", what=f"{path} may not be {verb}")
            assert record["add"].endswith(line)
            assert record["level"] == "warning"
        agent.stop()

        assert len(agent.logged("sandbox_denied")) == len(cases)


@pytest.mark.parametrize(
    ("capability", "given", "what", "line"),
    [
        ("read", {"path": "runtime/host.json"}, "is the host's alone", "use runtime/data"),
        ("find", {"host": "db.example.test"}, "db.example.test:5432 may not", "network: {allow: "),
        ("listen", {"port": 8099}, "port 8099 may not", "network: {listen: [8099]}"),
        ("serve", {"port": 8098}, "port 8098 may not", "network: {listen: [8098]}"),
        ("datagram", {}, "there is no UDP", "network: {external: true}"),
    ],
)
def test_what_else_is_refused_says_what_allows_it(
    tmp_path: Path, capability: str, given: dict[str, object], what: str, line: str
) -> None:
    """Names that are not found look like a broken network."""
    env = {"AGENT_SANDBOX__NETWORK__LISTEN": "[8097]"}
    with running_agent(make_agent(tmp_path / "agent"), env=env) as agent:
        answer = agent.post(f"/v1/capabilities/{capability}", given)
        assert answer.status == 500, answer.body
        record = agent.wait_logged("sandbox_denied")

    assert what in record["what"]
    assert line in record["add"]


def test_a_start_that_is_refused_something_ends_with_the_line_that_allows_it(
    tmp_path: Path,
) -> None:
    """The last lines are what the author sees of a start that fails."""
    folder = make_agent(tmp_path / "agent", "Path('../mark').write_text('x')")
    with pytest.raises(AgentFailedError) as caught, running_agent(folder):
        pass

    assert "sandbox: " in str(caught.value)
    assert "/mark may not be written; write below runtime/data instead" in str(caught.value)


def test_without_the_sandbox_everything_is_allowed(tmp_path: Path) -> None:
    """The refusals above are the sandbox's, and not the machine's."""
    outside = tmp_path / "new"
    with running_agent(make_agent(tmp_path / "agent"), env={"AGENT_SANDBOX__MODE": "off"}) as agent:
        assert agent.call("write", {"path": str(outside)}) == 1
        agent.call("datagram", {})
        agent.call("listen", {"port": 8099})

"""Who is an operator of a mesh that nobody has given a token: its owner, and none of its agents."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.meshes import RunningMesh, running_mesh

AGENT = '''
from pathlib import Path

from kagent_sdk import Agent

agent = Agent()


@agent.capability
async def peek(path: str) -> str:
    """Read a file."""
    try:
        return Path(path).read_text()
    except OSError as exc:
        return type(exc).__name__


if __name__ == "__main__":
    agent.run()
'''
MESH = "agents: {open: {path: open}, peeker: {path: peeker}}\n"
OPEN = "sandbox: {mode: 'off'}\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Run a mesh of two agents of the same user, one of them without a sandbox."""
    for name, config in (("open", OPEN), ("peeker", "")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "entrypoint.py").write_text(AGENT)
        (folder / "config.yaml").write_text(config)
    # All of one user, as they are where nobody but root could tell them apart.
    with running_mesh(tmp_path, MESH, environment={"AGENT_WORKER__USER": "keep"}) as mesh:
        mesh.wait_ready("open")
        mesh.wait_ready("peeker")
        yield mesh


def test_the_owner_of_a_mesh_is_its_operator_and_its_agents_are_not(mesh: RunningMesh) -> None:
    """An agent that runs foreign code must not be able to stop, update or read all the others."""
    file = mesh.data / "operator-token"
    token = file.read_text()
    link_token = mesh.data / "agents" / "peeker" / "keys" / "0" / "link-token"
    as_agent = {"Authorization": f"Bearer {link_token.read_text()}"}
    routes = (("GET", "/status"), ("GET", "/v1/fleet"), ("POST", "/v1/shutdown"))
    refused = [
        mesh.request(*route, headers=headers).status
        for route in routes
        for headers in ({"Authorization": ""}, as_agent)
    ]
    peeked = mesh.call("peek", agent="peeker", body={"path": str(file)})
    seen = mesh.call("peek", agent="open", body={"path": str(file)})

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert mesh.request("GET", "/status").status == 200
    assert refused == [401, 403] * 3
    # The sandbox it is that forbids it: without one the same user reads the same file.
    assert (peeked, seen) == ("PermissionError", token)

"""Tests of how `kagent_sdk.cli.location` finds an orchestrator by its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.location import local_target
from kagent_sdk.cli.target import Credentials
from tests.unit.cli.test_location import NOBODY, dead_pid, write_host_file

AGENT, MESH = "http://127.0.0.1:4711", "http://127.0.0.1:8080"
SECRET, OTHER = "s3cret", "other"


def write_mesh_file(folder: Path, **document: object) -> None:
    """Write what a running orchestrator writes."""
    (folder / ".kos-mesh").mkdir(exist_ok=True)
    (folder / ".kos-mesh" / "orchestrator.json").write_text(json.dumps(document))


def write_token(folder: Path, token: str) -> None:
    """Write what lets operators in."""
    (folder / ".kos-mesh").mkdir(exist_ok=True)
    (folder / ".kos-mesh" / "operator-token").write_text(token)


def test_an_orchestrator_is_found_by_its_folder(tmp_path: Path) -> None:
    """Nobody types ports, and without a token file local programs are operators."""
    write_mesh_file(tmp_path, pid=os.getpid(), url=MESH)

    target = local_target(tmp_path, NOBODY, {})

    assert target.url == MESH
    assert target.token is None


def test_the_agent_of_a_folder_comes_before_its_orchestrator(tmp_path: Path) -> None:
    """Who works on one agent means that agent; once it is gone the mesh is all there is."""
    write_mesh_file(tmp_path, pid=os.getpid(), url=MESH)
    write_host_file(tmp_path, pid=os.getpid(), url=AGENT)

    assert local_target(tmp_path, NOBODY, {}).url == AGENT
    (tmp_path / "runtime" / "host.json").write_text(json.dumps({"pid": dead_pid(), "url": AGENT}))
    assert local_target(tmp_path, NOBODY, {}).url == MESH


def test_the_operators_token_lies_beside_it(tmp_path: Path) -> None:
    """As an agent's lies in its vault; a file that the caller names comes first."""
    write_mesh_file(tmp_path, pid=os.getpid(), url=MESH)
    write_token(tmp_path, f"{SECRET}\n")
    mine = tmp_path / "mine"
    mine.write_text(OTHER)

    assert local_target(tmp_path, NOBODY, {}).token == SECRET
    assert local_target(tmp_path, Credentials(mine), {}).token == OTHER
    assert SECRET not in repr(local_target(tmp_path, NOBODY, {}))


@pytest.mark.parametrize("token", ["two words", "a\nb", "\x1b[2J"])
def test_a_token_that_is_none_is_refused(tmp_path: Path, token: str) -> None:
    """It would break out of its header; and no message repeats it."""
    write_mesh_file(tmp_path, pid=os.getpid(), url=MESH)
    write_token(tmp_path, token)

    with pytest.raises(UsageError, match=r"operator-token holds no usable token") as caught:
        local_target(tmp_path, NOBODY, {})
    assert token not in str(caught.value)


def test_an_orchestrator_that_is_gone_says_how_to_start_it(tmp_path: Path) -> None:
    """One that was killed leaves its file; its port may be somebody else's by now."""
    pid = dead_pid()
    write_mesh_file(tmp_path, pid=pid, url=MESH)

    with pytest.raises(
        UnreachableError, match=rf"no orchestrator is running .* process {pid}, is gone\); .* up"
    ):
        local_target(tmp_path, NOBODY, {})


@pytest.mark.parametrize("document", [{}, {"pid": "1", "url": MESH}, {"pid": 1, "url": 3}])
def test_a_damaged_note_says_so(tmp_path: Path, document: dict[str, object]) -> None:
    """And how to do without it."""
    write_mesh_file(tmp_path, **document)

    with pytest.raises(UnreachableError, match=r"orchestrator\.json is damaged; .* --url URL"):
        local_target(tmp_path, NOBODY, {})

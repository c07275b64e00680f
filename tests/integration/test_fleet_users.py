"""A mesh that root starts: its agents are user 1000, and can read what is theirs alone."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.meshes import running_mesh, start_mesh, write_agent
from tests.integration.readable_python import USER, as_user, is_root
from tests.integration.waiting import wait_until

MESH = "agents: {steady: {path: steady}}\n"
SAVED = "agents: {steady: {path: steady, snapshot_every_s: 1}}\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user can get through, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="kos-mesh-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def test_agents_of_root_are_user_1000_with_secrets_that_only_they_can_read(
    folder: Path, readable_python: Path
) -> None:
    """The vault of the author is root's: an agent that cannot read its secrets does not work."""
    agent = write_agent(folder / "steady", config="secrets: {expose: [key], required: [key]}\n")
    (agent / "secrets").mkdir(mode=0o700)
    vault = agent / "secrets" / "vault.json"
    vault.write_text(json.dumps({"key": "first-secret"}))
    vault.chmod(0o600)
    environment = {"AGENT_WORKER__USER": "agent"}
    with running_mesh(folder, SAVED, environment=environment, python=readable_python) as mesh:
        (replica,) = mesh.wait_ready()
        place = mesh.data / "agents" / "steady"
        copy = place / "0" / "secrets" / "vault.json"
        host = psutil.Process(replica["pid"])
        owner = USER if is_root() else os.getuid()

        assert host.uids().real == owner
        for secret in (copy, place / "keys" / "0" / "token", place / "keys" / "0" / "link-token"):
            assert secret.stat().st_uid == owner
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        # Code is not the agent's to change.
        assert (place / "0" / "entrypoint.py").stat().st_uid == os.getuid()
        assert mesh.call("count") == 1
        vault.write_text(json.dumps({"key": "second-secret"}))
        wait_until(lambda: "second" in copy.read_text())
        made = mesh.request("POST", "/v1/fleet/steady/snapshot").json()

        assert mesh.told("vault_copied")
        assert copy.stat().st_uid == owner
        assert made["snapshots"][0]["snapshot"], made
        # A disk that was tidied up too well is no end of an agent's memory.
        mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": 0})
        shutil.rmtree(place / "0")
        mesh.request("POST", "/v1/fleet/steady/scale", {"replicas": 1})
        mesh.wait_ready()

        assert mesh.told("snapshot_restored")
        assert (place / "0" / "runtime" / "journal.db").stat().st_uid == owner
        assert mesh.call("count") == 2


def test_an_orchestrator_without_root_and_record_finds_what_runs_by_its_folder(
    folder: Path, readable_python: Path
) -> None:
    """A second host in the same folder would be refused for ever, and never become ready."""
    write_agent(folder / "steady")
    (folder / "mesh.yaml").write_text(MESH)
    if is_root():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
    with running_mesh(folder, MESH, python=readable_python, options=as_user()) as mesh:
        (before,) = mesh.wait_ready()
        mesh.kill_orchestrator()
        (mesh.data / "fleet.json").unlink()
        following = start_mesh(
            folder, marker=mesh.marker, python=readable_python, options=as_user()
        )
        mesh.process, mesh.output = following.process, following.output
        (after,) = mesh.wait_ready()

        assert psutil.Process(after["pid"]).uids().real == (USER if is_root() else os.getuid())
        assert after["pid"] == before["pid"]
        assert mesh.told("replica_adopted")

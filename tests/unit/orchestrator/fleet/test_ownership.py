"""What an agent may change is no way to make root read, write or end something else."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet import hosts
from kagent_sdk.orchestrator.fleet.hosts import find_running
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.ownership import acting_as, refuse_foreign
from kagent_sdk.orchestrator.fleet.preparation import Preparation
from kagent_sdk.orchestrator.fleet.process import user_of
from kagent_sdk.orchestrator.fleet.releases import lay_out, make_release
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds
from kagent_sdk.sandbox.policy import AGENT_ID
from tests.unit.orchestrator.fleet.test_releases import KEEP


def test_a_process_that_an_agent_names_is_ended_only_when_it_is_of_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that was taken over wrote sshd's number down, held its lock, and root killed that."""
    place = Layout(tmp_path).place("steady", "0")
    place.host_file.parent.mkdir(parents=True)
    place.host_file.write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:9999"}))
    with place.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own = find_running(place, None)
        monkeypatch.setattr(hosts, "user_of", lambda _pid: os.getuid() + 1)
        foreign = find_running(place, None)

    assert own is not None
    assert own.pid == os.getpid()
    assert foreign is None


def test_the_user_of_a_process_is_its_real_one() -> None:
    """The folder in /proc belongs to root where a process has closed its memory."""
    assert user_of(os.getpid()) == os.getuid()
    assert user_of(2**22 + 1) is None


def test_a_vault_is_not_copied_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that it is in may be the agent's: root would write wherever that leads."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    (source / "own" / "keys").mkdir(parents=True)
    elsewhere.mkdir()
    (source / "entrypoint.py").touch()
    (source / "config.yaml").write_text("secrets: {file: own/keys/vault.json}\n")
    vault = source / "own" / "keys" / "vault.json"
    vault.write_text('{"key": "first"}')
    vault.chmod(0o600)
    layout = Layout(tmp_path / "data")
    place = layout.place("steady", "0")
    layout.releases("steady").mkdir(parents=True)
    spec = MeshAgent(path="agent", env={"AGENT_WORKER__USER": "keep"})
    preparation = Preparation("steady", spec, source, LinkGrounds(None, None), {})
    release = layout.releases("steady") / make_release(source, layout.releases("steady"))
    workplace = preparation.prepare(release, place)
    keys = place.folder / "own" / "keys"
    keys.rename(tmp_path / "aside")
    keys.symlink_to(elsewhere)
    vault.write_text('{"key": "second"}')

    with pytest.raises(OrchestratorError, match="cannot copy own"):
        preparation.refresh_vault(place, workplace)
    assert not list(elsewhere.iterdir())
    keys.unlink()
    keys.mkdir()
    assert preparation.refresh_vault(place, workplace)
    # And none is copied from where a link leads that root did not put there.
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "vault.json").write_text('{"key": "of another"}')
    (theirs / "vault.json").chmod(0o600)
    (source / "own" / "keys").rename(tmp_path / "away")
    (source / "own" / "keys").symlink_to(theirs)
    if os.geteuid() == 0:
        os.chown(source, AGENT_ID, AGENT_ID)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(OrchestratorError, match="cannot copy own"):
        preparation.refresh_vault(place, workplace)

    assert "second" in (keys / "vault.json").read_text()


def test_root_that_acts_as_an_agent_can_do_no_more_than_the_agent(tmp_path: Path) -> None:
    """Snapshots are restored in folders that the agent may change meanwhile."""
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    made: list[bool] = []

    def act() -> None:
        with acting_as(AGENT_ID if os.geteuid() == 0 else None), suppress(PermissionError):
            (shut / "inside").touch()
        made.append((shut / "inside").exists())
        (shut / "afterwards").touch()

    thread = threading.Thread(target=act)
    thread.start()
    (shut / "meanwhile").touch()  # other threads are who they were
    thread.join()

    assert made == [os.geteuid() != 0]
    assert (shut / "afterwards").exists()


def test_root_keeps_its_fleet_only_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns .kos-mesh owns what root starts, ends and writes."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    refuse_foreign(data)
    data.chmod(0o777)
    monkeypatch.setattr("os.geteuid", lambda: 0)

    with pytest.raises(OrchestratorError, match="other users than root"):
        refuse_foreign(data)


def test_a_working_folder_of_roots_is_not_the_agents_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can replace what is in it can replace what root looks at there."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda *_args, **_keys: None)
    monkeypatch.setattr("os.fchown", lambda *_args: None)
    source, shelf = tmp_path / "source", tmp_path / "releases"
    source.mkdir()
    shelf.mkdir()
    (source / "entrypoint.py").touch()
    (source / "entrypoint.py").chmod(0o4755)
    source.chmod(0o777)
    lay_out(shelf / make_release(source, shelf), tmp_path / "0", KEEP)

    assert stat.S_IMODE((tmp_path / "0").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "0" / "entrypoint.py").stat().st_mode) == 0o755

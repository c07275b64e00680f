"""How a replica's folder is made."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.preparation import Preparation
from kagent_sdk.orchestrator.fleet.releases import make_release
from tests.unit.orchestrator.fleet.test_workplace import LINK, SPEC


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give an author's folder with a vault."""
    folder = tmp_path / "agent"
    (folder / "secrets").mkdir(parents=True)
    (folder / "entrypoint.py").touch()
    vault = folder / "secrets" / "vault.json"
    vault.write_text(json.dumps({"key": "value"}))
    vault.chmod(0o600)
    return folder


def test_the_vault_is_copied_at_each_start_and_when_it_changes(
    source: Path, tmp_path: Path
) -> None:
    """A secret that was rotated must not wait for the next update."""
    layout = Layout(tmp_path / "data")
    place = layout.place("steady", "0")
    layout.releases("steady").mkdir(parents=True)
    spec = SPEC.model_copy(update={"env": {"AGENT_WORKER__USER": "keep"}})
    preparation = Preparation("steady", spec, source, LINK, {})
    release = layout.releases("steady") / make_release(source, layout.releases("steady"))
    workplace = preparation.prepare(release, place)
    copy = place.folder / "secrets" / "vault.json"
    first = copy.read_text()
    unchanged = preparation.refresh_vault(place, workplace)
    (source / "secrets" / "vault.json").write_text(json.dumps({"key": "other"}))
    changed = preparation.refresh_vault(place, workplace)
    token = place.token.read_text()
    preparation.prepare(release, place)

    assert json.loads(first) == {"key": "value"}
    assert (unchanged, changed) == (False, True)
    assert json.loads(copy.read_text()) == {"key": "other"}
    assert stat.S_IMODE(copy.stat().st_mode) == stat.S_IMODE(place.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.keys.stat().st_mode) == 0o700
    assert place.token.read_text() == token  # an adopted one must still know it


def test_a_vault_that_others_can_read_is_not_copied(source: Path, tmp_path: Path) -> None:
    """The copy would hide what is wrong with the original."""
    (source / "secrets" / "vault.json").chmod(0o644)
    layout = Layout(tmp_path / "data")
    layout.releases("steady").mkdir(parents=True)
    preparation = Preparation("steady", SPEC, source, LINK, {"AGENT_WORKER__USER": "keep"})
    release = layout.releases("steady") / make_release(source, layout.releases("steady"))

    with pytest.raises(OrchestratorError, match="open to every user"):
        preparation.prepare(release, layout.place("steady", "0"))


def test_a_container_gets_its_tokens_in_the_vault_and_a_port_of_this_machine(
    source: Path, tmp_path: Path
) -> None:
    """It sees no file of this machine but its own folders."""
    layout = Layout(tmp_path / "data")
    place = layout.place("steady", "0")
    layout.releases("steady").mkdir(parents=True)
    spec = MeshAgent(path="agent", driver="container", network="klp-mesh")
    preparation = Preparation("steady", spec, source, LINK, {})
    release = layout.releases("steady") / make_release(source, layout.releases("steady"))
    workplace = preparation.prepare(release, place)
    vault = json.loads((place.folder / "secrets" / "vault.json").read_text())
    port = place.port.read_text()

    assert vault == {
        "key": "value",
        "agent_token": place.token.read_text(),
        "orchestrator_token": LINK.token,
    }
    assert "AGENT_TOKEN_FILE" not in workplace.environment
    assert "AGENT_ORCHESTRATOR_TOKEN_FILE" not in workplace.environment
    assert workplace.environment["AGENT_ORCHESTRATOR__ADDRESS"] == f"http://127.0.0.1:{port}"
    assert not preparation.refresh_vault(place, workplace)

"""Nobody gets out of a container that compose or podman play kube has made from the manifests either."""

from __future__ import annotations

from pathlib import Path

from tests.images.breakout import (
    FIELD,
    VARIABLES,
    build_breakout,
    put_secret,
    running_breakout,
)
from tests.images.conftest import TOKEN
from tests.images.podman import Podman
from tests.images.sites import Site
from tests.images.test_escapes import CLOSED_HERE, SAYS_NOTHING, find_wrong
from tests.images.test_kube import Player
from tests.integration.escapes.ground import ATTEMPTS
from tests.integration.sandbox_stage import SECRET, Results, lay_out_field

UNSAID = {*SAYS_NOTHING, *CLOSED_HERE}
"""Named open, and closed by ``noexec`` where an engine mounts a volume so; not all do."""


def test_no_attempt_gets_out_of_a_service(
    podman: Podman,
    agent_base: str,
    python_base: str,
    agent_folder: Path,
    unique: str,
    tmp_path: Path,
) -> None:
    """With its egress container beside it, and a mesh of neighbours."""
    image = f"localhost/{unique}/breakout"
    source = build_breakout(podman, tmp_path / "source", agent_base, image)
    put_secret(agent_folder / "secrets" / "vault.json")
    field = lay_out_field(tmp_path / "field")
    site = Site(podman, image, python_base, agent_folder, unique, source)
    volumes = [f"{field}:{FIELD}:rw,noexec,nosuid,nodev"]
    with site.running(has_neighbours=True, volumes=volumes, environment=VARIABLES) as project:
        folder = _link_volume(podman, f"{unique}_runtime", tmp_path / "machine")
        with running_breakout(project.agent, folder, field) as stage:
            inside = stage.run_inside(ATTEMPTS, stage.ground())

    assert_none_got_out(inside)


def test_no_attempt_gets_out_of_a_pod(
    podman: Podman, agent_base: str, unique: str, tmp_path: Path
) -> None:
    """Podman mounts a Pod's volumes with fewer options than a container's."""
    image = f"localhost/{unique}/breakout"
    build_breakout(podman, tmp_path / "source", agent_base, image)
    field = lay_out_field(tmp_path / "field")
    player = Player(podman, image, unique, tmp_path, {"agent_token": TOKEN, "key": SECRET})
    agent = player.play(env=VARIABLES, folders={FIELD: field})
    agent.wait_ready()
    folder = _link_volume(podman, f"{unique}-runtime", tmp_path / "machine")
    with running_breakout(agent, folder, field) as stage:
        inside = stage.run_inside(ATTEMPTS, stage.ground())

    assert_none_got_out(inside)


def assert_none_got_out(inside: Results) -> None:
    """Fail when an attempt got through that the threat model does not name."""
    assert inside.keys() == ATTEMPTS.keys()
    assert find_wrong(inside, UNSAID) == {}


def _link_volume(podman: Podman, volume: str, folder: Path) -> Path:
    """Return a folder whose ``runtime`` is a volume of the engine."""
    place = podman.run("volume", "inspect", "--format={{.Mountpoint}}", volume).stdout.strip()
    folder.mkdir()
    (folder / "runtime").symlink_to(place)
    return folder

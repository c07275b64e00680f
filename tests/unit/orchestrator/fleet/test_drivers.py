"""How a replica is run, here or in a container of an engine that is handed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.containers import ContainerOrder
from kagent_sdk.orchestrator.fleet.drivers import make_driver
from kagent_sdk.orchestrator.fleet.layout import Layout, Place
from kagent_sdk.orchestrator.fleet.preparation import Preparation
from kagent_sdk.orchestrator.fleet.releases import image_in, make_release
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds, Workplace
from kagent_sdk.snapshots.naming import make_name

SPEC = MeshAgent(path="agent", driver="container", network="klp-mesh")
LINK = LinkGrounds("http://10.89.0.1:8080", "t" * 20)


@dataclass
class Engine:
    """Stands for a container engine.

    Attributes:
        image: that the agent's name has at this moment; None: there is none.
        damaged: snapshots that it cannot restore.
        orders: what it was asked for.
    """

    image: str | None = "one"
    damaged: tuple[str, ...] = ()
    orders: list[ContainerOrder] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def find_image(self, folder: Path, wanted: str | None, environ: Mapping[str, str]) -> str:
        """Return the image."""
        if self.image is None:
            raise OrchestratorError("podman has no image agent:1")
        return self.image

    def command(self, order: ContainerOrder) -> list[str]:
        """Take an order."""
        self.orders.append(order)
        return ["podman", "run", order.image]

    def restore(self, order: ContainerOrder, snapshot: str) -> str | None:
        """Restore a snapshot, unless it is damaged."""
        self.orders.append(order)
        self.restored.append(snapshot)
        return "the snapshot is damaged" if snapshot in self.damaged else None

    def remove(self, name: str) -> None:
        """Take note of it."""
        self.removed.append(name)


@dataclass
class Scene:
    """An agent in containers, and a replica of its release.

    Attributes:
        release: the folder of one that was made with the engine's first image.
    """

    engine: Engine
    layout: Layout
    preparation: Preparation
    release: Path
    place: Place

    def prepare(self) -> Workplace:
        """Make the replica's folder."""
        return self.preparation.prepare(self.release, self.place)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Give an agent in containers."""
    engine, layout, source = Engine(), Layout(tmp_path / "data"), tmp_path / "agent"
    (source / "secrets").mkdir(parents=True)
    (source / "entrypoint.py").touch()
    vault = source / "secrets" / "vault.json"
    vault.write_text(json.dumps({"key": "value"}))
    vault.chmod(0o600)
    releases, place = layout.releases("steady"), layout.place("steady", "0")
    releases.mkdir(parents=True)
    preparation = Preparation("steady", SPEC, source, LINK, {}, make_driver(SPEC, engine))
    image = preparation.find_image(place)
    release = releases / make_release(source, releases, image)
    return Scene(engine, layout, preparation, release, place)


def test_another_image_is_another_release(scene: Scene) -> None:
    """An image that was built again with the same files has to be rolled out, tried and taken back."""
    source, releases = scene.preparation.source, scene.layout.releases("steady")
    (source / ".kos-image").write_text("the author's own")

    assert make_release(source, releases, "one") == scene.release.name
    assert make_release(source, releases, "two") != scene.release.name
    assert image_in(scene.release) == "one"


def test_a_container_is_of_the_image_of_its_release_and_not_of_what_has_the_name_by_now(
    scene: Scene,
) -> None:
    """A replica that dies at night must not come back with what somebody has built meanwhile."""
    workplace = scene.prepare()
    scene.engine.image = "two"
    command = scene.preparation.driver.command(scene.release, scene.place, workplace)
    (order,) = scene.engine.orders

    assert command == ["podman", "run", "one"]
    assert order.name == scene.place.container
    assert order.network == "klp-mesh"
    assert str(order.port) == scene.place.port.read_text()
    assert order.environ is workplace.environment


def test_snapshots_of_a_container_are_kept_beside_its_folder(scene: Scene) -> None:
    """In the folder they would be lost with it. Where the author has them elsewhere, they go there."""
    driver = scene.preparation.driver
    driver.command(scene.release, scene.place, scene.prepare())
    (scene.release / "config.yaml").write_text("snapshots: {destination: runtime/mine}\n")
    driver.command(scene.release, scene.place, scene.prepare())
    ours, theirs = scene.engine.orders

    assert ours.snapshots == scene.place.snapshots
    assert ours.environ["AGENT_SNAPSHOTS__DESTINATION"] == "/snapshots"
    assert theirs.snapshots is None
    assert "AGENT_SNAPSHOTS__DESTINATION" not in theirs.environ


def test_a_container_without_a_journal_gets_the_newest_snapshot_that_is_whole(
    scene: Scene,
) -> None:
    """It is restored by the image's own release, as the agent's user: the engine does it."""
    workplace = scene.prepare()
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    names = [str(make_name("steady", at, b"\0\0\0\1")) for at in moments]
    for name in (*names, "other"):
        (scene.place.snapshots / name).touch()
    scene.engine.damaged = (names[2],)
    restore = scene.preparation.driver.restore
    found = restore(scene.release, scene.place, workplace)
    scene.place.runtime.mkdir()
    scene.place.journal.touch()
    again = restore(scene.release, scene.place, workplace)

    assert found == (names[1], f"{names[2]}: the snapshot is damaged")
    assert scene.engine.restored == [names[2], names[1]]
    assert again == (None, None)


def test_what_is_left_of_a_container_is_removed_by_its_name(scene: Scene) -> None:
    """Its process is the engine's: the container can outlive that, and would keep the name."""
    scene.preparation.driver.clear(scene.place)

    assert scene.engine.removed == [scene.place.container]


def test_containers_take_an_engine() -> None:
    """A program that embeds a fleet hears it at once, and not from a replica that never starts."""
    with pytest.raises(OrchestratorError, match="driver: container needs an engine"):
        make_driver(SPEC, None)

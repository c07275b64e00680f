"""How replicas get their containers: engines are programs, and so stand-ins serve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kagent_sdk.cli.fleet_containers import EngineContainers
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.containers import ContainerOrder
from tests.unit.cli.test_containers import install

FOUND = """\
[ "$*" = "inspect --type=image steady:2.0" ] || [ "$3" = abc ] || exit 1
echo '[{"Id": "abc"}]'"""
RESTORES = """\
case "$1" in
inspect) echo '[{"Id": "abc"}]' ;;
run) echo "error: the snapshot is damaged: state" >&2; echo "  more" >&2; exit 1 ;;
esac"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Give the folder of a replica."""
    folder = tmp_path / "agent"
    (folder / "secrets").mkdir(parents=True)
    (folder / "config.yaml").write_text("name: steady\nversion: '2.0'\n")
    (folder / "secrets" / "vault.json").write_text("{}")
    return folder


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that is all of the path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("kagent_sdk.cli.container_run.hand_over", lambda _path: None)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def order_of(agent: Path, snapshots: Path | None = None) -> ContainerOrder:
    """Return an order for a replica."""
    environ = {"PATH": os.environ["PATH"], "AGENT_LOGS__LEVEL": "debug", "OTHER": "secret"}
    return ContainerOrder(agent, "abc", "kos-steady-0", 40_001, "klp-mesh", snapshots, environ)


def test_the_image_of_a_release_is_known_by_its_id(
    agent: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tomorrow the name may be another image's."""
    install(engines, "podman", FOUND, monkeypatch)

    assert EngineContainers().find_image(agent, None, {}) == "abc"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "there is no container engine"),
        ("echo 'no such image' >&2; exit 1", "podman has no image steady:2.0; make it with"),
        ("echo 'cannot connect' >&2; exit 1", "podman does not work: cannot connect"),
    ],
)
def test_an_image_that_is_not_there_is_a_line_with_the_way_out(
    agent: Path,
    engines: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    said: str,
) -> None:
    """It is the answer to an update, and what is told of a start that failed."""
    if script is not None:
        install(engines, "podman", script, monkeypatch)
    with pytest.raises(OrchestratorError, match=said):
        EngineContainers().find_image(agent, None, {})


def test_a_replica_runs_with_every_flag_of_the_policy_and_sees_its_snapshots(
    agent: Path, engines: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container of the mesh is confined as one that is started by hand."""
    install(engines, "podman", FOUND, monkeypatch)
    kept = tmp_path / "kept"
    words = EngineContainers().command(order_of(agent, kept))
    without = EngineContainers().command(order_of(agent))

    assert words[:4] == ["podman", "run", "--rm", "--pull=never"]
    assert words[-1] == "abc"
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(words)
    assert {"--name=kos-steady-0", "--network=klp-mesh"} <= set(words)
    assert "--publish=127.0.0.1:40001:8080" in words
    assert "--env=AGENT_LOGS__LEVEL" in words
    assert not [word for word in words if "OTHER" in word]
    (mount,) = set(words) - set(without)
    assert mount == f"--volume={kept}:/snapshots:rw,noexec,nosuid,nodev"


def test_an_image_that_was_removed_is_told_apart_from_one_that_was_never_made(
    agent: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is at hand, and building it would not bring back what the release was."""
    install(engines, "podman", "echo 'no such image' >&2; exit 1", monkeypatch)
    with pytest.raises(OrchestratorError, match=r"the image of this release is gone \(abc\)"):
        EngineContainers().command(order_of(agent))


def test_why_a_snapshot_was_not_restored_is_the_first_line_of_what_was_said(
    agent: Path, engines: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then the one before it is tried, and the reason is told."""
    install(engines, "podman", RESTORES, monkeypatch)

    reason = EngineContainers().restore(order_of(agent, tmp_path), "steady-1.tar.zst")

    assert reason == "the snapshot is damaged: state"

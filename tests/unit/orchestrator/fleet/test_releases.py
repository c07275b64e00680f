"""Releases, and the working folders that are made of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet import releases as module
from kagent_sdk.orchestrator.fleet.layout import RELEASE_MARK
from kagent_sdk.orchestrator.fleet.releases import (
    kept_names,
    lay_out,
    make_release,
    prune_releases,
    release_in,
)

KEEP = kept_names(AgentConfig())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give an author's folder."""
    folder = tmp_path / "source"
    (folder / "lib" / "__pycache__").mkdir(parents=True)
    (folder / "lib" / "part.py").write_text("PART = 1\n")
    (folder / "lib" / "__pycache__" / "part.pyc").touch()
    (folder / "lib" / "again").symlink_to("../entrypoint.py")
    (folder / "entrypoint.py").write_text("print(1)\n")
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    (folder / "outside").symlink_to("../elsewhere")
    for name in ("runtime", "logs", "secrets", ".git", ".kos-mesh", "own-venv"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    (folder / "own-venv" / "pyvenv.cfg").touch()
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Give a folder for releases."""
    folder = tmp_path / "releases"
    folder.mkdir()
    return folder


def test_a_release_has_the_code_and_nothing_of_a_run_or_a_secret(source: Path, shelf: Path) -> None:
    """Copies of a vault that nobody thinks of are how secrets get lost."""
    release = shelf / make_release(source, shelf)
    found = {str(path.relative_to(release)) for path in release.rglob("*")}

    assert found == {"entrypoint.py", "lib", "lib/again", "lib/part.py", "outside", "tool"}
    assert stat.S_IMODE((release / "tool").stat().st_mode) == 0o755
    assert (release / "lib" / "again").readlink() == Path("../entrypoint.py")
    assert (release / "outside").readlink() == source.parent / "elsewhere"
    assert [path.name for path in shelf.iterdir()] == [release.name]


def test_the_same_content_is_the_same_release_and_other_content_another(
    source: Path, shelf: Path
) -> None:
    """An update without a change must replace nothing."""
    first = make_release(source, shelf)
    (source / "runtime" / "journal.db").touch()
    again = make_release(source, shelf)
    (source / "lib" / "part.py").write_text("PART = 2\n")
    other = make_release(source, shelf)
    (source / "tool").chmod(0o644)
    mode = make_release(source, shelf)

    assert first == again
    assert len({first, other, mode}) == 3
    assert (shelf / first / "lib" / "part.py").read_text() == "PART = 1\n"


def test_another_release_replaces_the_code_and_leaves_what_the_agent_wrote(
    source: Path, shelf: Path, tmp_path: Path
) -> None:
    """An update that lost the journal would lose tasks."""
    config = AgentConfig.model_validate({"sandbox": {"write": ["data/cache", "/var/elsewhere"]}})
    keep = kept_names(config)
    (source / "data").mkdir()
    (source / "data" / "seed").write_text("seed")
    folder = tmp_path / "0"
    lay_out(shelf / make_release(source, shelf), folder, keep)
    (folder / "runtime").mkdir()
    (folder / "runtime" / "journal.db").write_text("tasks")
    (folder / "data" / "seed").write_text("grown")
    (source / "lib" / "part.py").unlink()
    (source / "entrypoint.py").write_text("print(2)\n")
    second = make_release(source, shelf)
    lay_out(shelf / second, folder, keep)

    assert release_in(folder) == second
    assert (folder / "entrypoint.py").read_text() == "print(2)\n"
    assert not (folder / "lib" / "part.py").exists()
    assert (folder / "runtime" / "journal.db").read_text() == "tasks"
    assert (folder / "data" / "seed").read_text() == "grown"


def test_a_folder_that_was_half_made_is_made_again(
    source: Path, shelf: Path, tmp_path: Path
) -> None:
    """The orchestrator may die between two files."""
    release = shelf / make_release(source, shelf)
    folder = tmp_path / "0"
    lay_out(release, folder, KEEP)
    (folder / RELEASE_MARK).unlink()
    (folder / "entrypoint.py").unlink()
    lay_out(release, folder, KEEP)

    assert (folder / "entrypoint.py").exists()
    assert release_in(folder) == release.name


def test_a_folder_that_is_no_agents_is_refused_before_the_disk_is_full(
    source: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kos-agent up` in a home would copy the home."""
    monkeypatch.setattr(module, "MAX_FILES", 3)
    with pytest.raises(OrchestratorError, match="more than 3 files"):
        make_release(source, shelf)

    assert list(shelf.iterdir()) == []


def test_old_releases_go_but_for_those_that_are_needed(shelf: Path) -> None:
    """Each update would leave a copy for ever."""
    for number in range(6):
        (shelf / f"r{number}").mkdir()
        os.utime(shelf / f"r{number}", (number, number))
    prune_releases(shelf, {"r0"}, keep=2)

    assert sorted(path.name for path in shelf.iterdir()) == ["r0", "r4", "r5"]

"""`kos-agent export`, typed as a user does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.cli import kos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent's folder."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "config.yaml").write_text("version: '1.2'\n")
    return folder


def test_the_manifest_is_printed_and_nothing_else(folder: Path) -> None:
    """It goes into a file or a pipe as it is."""
    done = kos("export", "seccomp", str(folder))

    assert done.code == 0
    assert json.loads(done.out)["defaultAction"] == "SCMP_ACT_ERRNO"
    assert done.err == ""


def test_all_files_are_written_where_they_are_wanted(folder: Path, tmp_path: Path) -> None:
    """A manifest that names another file is of no use without it."""
    done = kos("export", "seccomp", str(folder), "--output", str(tmp_path / "deploy"))

    assert done.code == 0
    assert json.loads((tmp_path / "deploy" / "seccomp.json").read_text())["syscalls"]
    assert done.out == ""
    assert done.err == f"wrote {tmp_path / 'deploy' / 'seccomp.json'}\n"


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    """The reason is the system's."""
    done = kos("export", "seccomp", str(folder), "--output", str(folder / "config.yaml"))

    assert done.code == 1
    assert "cannot write to" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["secomp", "."], "there is no target 'secomp'; did you mean 'seccomp'?"),
        (["zzz", "."], "there is no target 'zzz'; they are compose, docker-run"),
        (["seccomp", "nowhere"], "there is no folder nowhere"),
        (["seccomp", ".", "--set", "imag=x"], 'there is no setting "imag"; did you mean "image"?'),
    ],
)
def test_what_is_misspelt_is_told_with_the_nearest_right_thing(
    folder: Path, words: list[str], message: str
) -> None:
    """A person can go on from there; the exit code is that of wrong usage."""
    done = kos("export", *words, cwd=folder)

    assert done.code == 2
    assert message in done.err


def test_variables_of_this_shell_are_not_deployed(folder: Path) -> None:
    """They are for runs from this shell; the file that they name is another configuration."""
    (folder / "other.yaml").write_text("http: {port: 0}\n")

    plain = kos("export", "seccomp", str(folder), env={"AGENT_HTTP__PORT": "0"})
    named = kos("export", "seccomp", str(folder), env={"AGENT_CONFIG": str(folder / "other.yaml")})

    assert plain.code == 0
    assert named.code == 2
    assert "http.port is 0" in named.err

"""`kos-agent export TARGET --check FILE`, typed as a user does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.acceptance.cli import kos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent's folder with its profile and a compose file that loosens it."""
    (tmp_path / "config.yaml").write_text("name: shop\n")
    (tmp_path / "seccomp.json").write_text(kos("export", "seccomp", str(tmp_path)).out)
    (tmp_path / "compose.yaml").write_text("services:\n  shop:\n    privileged: true\n")
    return tmp_path


def test_a_manifest_that_holds_exits_with_0(folder: Path) -> None:
    """A pipeline goes on."""
    done = kos("export", "seccomp", "--check", "seccomp.json", cwd=folder)

    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("it loosens nothing\n")


def test_a_manifest_that_loosens_the_policy_exits_with_1(folder: Path) -> None:
    """A pipeline stops, and says why."""
    done = kos("export", "compose", str(folder), "--check", "compose.yaml", cwd=folder)

    assert (done.code, done.err) == (1, "")
    assert "services.shop.privileged (line 3)" in done.out


def test_programs_are_told_in_json(folder: Path) -> None:
    """Other tools make their own reports of it."""
    text = (folder / "compose.yaml").read_text()
    done = kos("export", "compose", "--check", "-", "--json", cwd=folder, stdin=text)

    answer = json.loads(done.out)
    assert (done.code, answer["target"], answer["file"], answer["holds"]) == (
        1,
        "compose",
        "-",
        False,
    )
    assert answer["findings"][0] == {
        "control": "privileged",
        "wanted": "no",
        "found": "yes, which lifts all else",
        "where": "services.shop.privileged (line 3)",
        "fix": "remove it",
        "severity": "critical",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compose", "--check", "nothing.yaml"], "nothing.yaml cannot be read: No such file"),
        (["compose", "--check", "."], ". cannot be read: Is a directory"),
        (["compose", "--check", "pipe"], "pipe is no file"),
        (["compose", "--check", "large"], "large is over 1048576 bytes"),
        (["compose", "--check", "bytes"], "bytes is no text in UTF-8"),
        (["kubernetes", "--check", "compose.yaml"], "it is like one for compose"),
        (["nsjail", "--check", "compose.yaml"], "nsjail cannot be compared"),
        (["oci-hook", "--check", "compose.yaml"], "it judges each bundle itself"),
        (["compse", "--check", "compose.yaml"], "did you mean 'compose'?"),
        (["compose", "--json"], "--json is for --check"),
        (["compose", "--check", "compose.yaml", "--output", "x"], "--check writes none"),
    ],
)
def test_what_cannot_be_compared_exits_with_2(folder: Path, words: list[str], message: str) -> None:
    """Neither a verdict nor a traceback."""
    os.mkfifo(folder / "pipe")
    (folder / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    (folder / "bytes").write_bytes(b"\xff\xfe")

    done = kos("export", *words, cwd=folder)
    assert done.code == 2
    assert message in done.err


def test_an_error_is_json_where_json_was_asked_for(folder: Path) -> None:
    """A program reads one format alone."""
    done = kos("export", "nsjail", "--check", "compose.yaml", "--json", cwd=folder)

    assert done.code == 2
    assert json.loads(done.err)["error"]["message"].startswith("compose.yaml: a configuration of")

"""Dockerfile.base and what the documentation shows to put on it, without an engine."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

from tests.agents import REPOSITORY
from tests.docs.blocks import read_blocks

DOCKERFILE = REPOSITORY / "Dockerfile.base"
PAGE = REPOSITORY / "docs" / "images.md"

HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"

EXCUSED = (
    "DL3006",  # `FROM kos/agent-base` has no tag: pages that named one would be old with each release
    "DL3042",  # pip keeps no cache: PIP_NO_CACHE_DIR of the base, which hadolint cannot see
)
"""What is right in an agent's own Dockerfile."""


def lint(text: str, *ignored: str) -> str:
    """Return what hadolint finds in a Dockerfile."""
    options = [f"--ignore={rule}" for rule in ignored]
    done = subprocess.run(
        [HADOLINT, "--no-color", *options, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def read_targets() -> dict[str, list[str]]:
    """Return the instructions of each stage of Dockerfile.base, by its name."""
    stages: dict[str, list[str]] = {}
    name = ""
    for line in DOCKERFILE.read_text().splitlines():
        if found := re.match(r"FROM \S+(?: AS (\S+))?$", line):
            name = found[1] or "default"
            stages[name] = []
        elif name and line and not line.startswith("#"):
            stages[name].append(line)
    return stages


def common(lines: list[str]) -> list[str]:
    """Return a target's instructions from the block on that all of them have."""
    return lines[next(i for i, line in enumerate(lines) if line.startswith("ARG SCRIPTS")) :]


def test_hadolint_finds_nothing_in_the_base() -> None:
    """Its rules are what experience with images has come to; each exception says why."""
    text = DOCKERFILE.read_text()

    assert lint(text) == ""
    assert all(
        re.search(r"ignore=DL\d+ # \w+", line) for line in text.splitlines() if "ignore=" in line
    )


def test_hadolint_finds_what_it_should() -> None:
    """A linter that finds nothing in anything would pass the test above."""
    assert "DL3004" in lint("FROM debian:12\nRUN sudo true\n")


def test_hadolint_finds_nothing_in_the_dockerfile_of_the_documentation() -> None:
    """Authors copy it."""
    shown = [
        block.text
        for block in read_blocks(PAGE)
        if block.text.startswith(("FROM kos/agent-base", "# syntax"))
    ]

    assert shown
    for text in shown:
        assert lint(text, *EXCUSED) == ""


def test_the_targets_differ_by_their_base_alone() -> None:
    """What is said four times is said in four ways after a year, unless something holds it together."""
    stages = read_targets()

    blocks = {name: common(stages[name]) for name in ("debian-slim", "ubuntu", "alpine", "gpu")}

    assert all(block == blocks["debian-slim"] for block in blocks.values())
    assert len(blocks["debian-slim"]) > 20


def test_debian_slim_is_what_is_built_when_no_target_is_named() -> None:
    """`docker build -f Dockerfile.base .` takes the last stage."""
    last = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("FROM ")][-1]

    assert last == "FROM debian-slim"

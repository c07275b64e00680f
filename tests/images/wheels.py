"""A folder of wheels, so that images are built without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.agents import REPOSITORY
from tests.images.bases import cache_folder, only_one
from tests.images.podman import run_command

PIP = [sys.executable, "-m", "pip"]
PYTHON_VERSION = "3.11"
"""Of the bases; this run's own may be newer."""

LOCKS = [REPOSITORY / "scripts" / "images" / name for name in ("requirements.txt", "pip.txt")]


def collect_wheels(folder: Path, python_version: str = PYTHON_VERSION) -> None:
    """Put the wheels of the SDK, as it is in this tree, and of all that it needs into a folder.

    Raises:
        PodmanError: one could not be had.
    """
    suffix = "" if python_version == PYTHON_VERSION else f"-{python_version}"
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS)).hexdigest()[:12]
    pinned = _have(
        f"wheels-{digest}{suffix}",
        "download",
        "--only-binary=:all:",
        "--require-hashes",
        f"--python-version={python_version}",
        *(f"--requirement={lock}" for lock in LOCKS),
    )
    for wheel in pinned.iterdir():
        shutil.copy2(wheel, folder)
    _run("wheel", "--no-deps", "--wheel-dir", folder, REPOSITORY)


def make_wheels(folder: Path, requirements: Path) -> None:
    """Put wheels of what an agent requires, all of it plain Python, into a folder.

    Raises:
        PodmanError: one could not be had.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    kept = _have(f"wheels-{digest}", "wheel", "-r", requirements)
    for wheel in kept.iterdir():
        shutil.copy2(wheel, folder)


def _have(name: str, command: str, *words: str | Path) -> Path:
    """Let pip fill a folder of the cache with wheels, unless it is there; return it."""
    folder = cache_folder() / name
    option = "--wheel-dir" if command == "wheel" else "--dest"
    with only_one("wheels"):
        if not folder.exists():
            part = Path(tempfile.mkdtemp(prefix="wheels-", dir=folder.parent))
            _run(command, option, part, *words)
            part.replace(folder)
    return folder


def _run(*words: str | Path) -> None:
    run_command(*PIP, *words[:1], "--quiet", *words[1:], env=os.environ)

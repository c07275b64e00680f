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

LOCK = REPOSITORY / "scripts" / "images" / "requirements.txt"


def collect_wheels(folder: Path) -> None:
    """Put the wheels of the SDK, as it is in this tree, and of all that it needs into a folder.

    Raises:
        PodmanError: one could not be had.
    """
    for wheel in _have_pinned().iterdir():
        shutil.copy2(wheel, folder)
    _run("wheel", "--no-deps", "--wheel-dir", folder, REPOSITORY)


def download_wheels(folder: Path, *requirements: str) -> None:
    """Put the wheels of what an agent requires, and of all that it needs, into a folder."""
    _run("download", "--only-binary=:all:", "--dest", folder,
         f"--python-version={PYTHON_VERSION}", *requirements)  # fmt: skip


def _have_pinned() -> Path:
    """Download what is pinned, unless the cache has it."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"wheels-{digest}"
    with only_one("wheels"):
        if not folder.exists():
            part = Path(tempfile.mkdtemp(prefix="wheels-", dir=folder.parent))
            _run("download", "--only-binary=:all:", "--require-hashes", "--dest", part,
                 f"--python-version={PYTHON_VERSION}", "-r", LOCK)  # fmt: skip
            part.replace(folder)
    return folder


def _run(*words: str | Path) -> None:
    run_command(*PIP, *words[:1], "--quiet", *words[1:], env=os.environ)

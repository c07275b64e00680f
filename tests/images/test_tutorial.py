"""Somebody who has never seen the library copies the tutorial's blocks into an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, read_blocks
from tests.docs.shell import BASH, Machine, PageShell
from tests.docs.test_pages import TUTORIAL, follow_block
from tests.images.podman import Podman
from tests.images.wheels import PYTHON_VERSION, collect_wheels

BASE = "localhost/kos/agent-base:latest"
AGENT = "counter"
IMAGE = f"localhost/{AGENT}:0.1.0"
"""What the page calls them; they are removed."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOBODY = 65534
PROBE = (
    "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2]); "
    "sys.exit(sys.version_info < (3, 11))"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user can get through, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="kos-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python() -> tuple[Path, str]:
    """Return a ``python3`` that every user has, and its version."""
    for folder in PATH.split(":"):
        path = Path(folder) / "python3"
        done = (
            subprocess.run(
                [path, "-c", PROBE], capture_output=True, check=False, text=True, user=NOBODY
            )
            if path.exists()
            else None
        )
        if done is not None and done.returncode == 0:
            return path, done.stdout.strip()
    pytest.fail("no Python 3.11 with venv for every user: install Debian's python3-venv")


@pytest.fixture
def index(python: tuple[Path, str], wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with this tree's wheel, and all that it needs, for that Python."""
    version = python[1]
    if version == PYTHON_VERSION:
        return wheels
    folder = tmp_path_factory.mktemp(f"wheels-{version}")
    collect_wheels(folder, version)
    return folder


@pytest.fixture
def machine(place: Path, podman: Podman, python: tuple[Path, str], index: Path) -> Machine:
    """Return a machine without anything of ours, on which pip finds the library.

    It has a network of its own, and so the ports that the page names. How podman is to be run here is
    the machine's business, as it would be a reader's.
    """
    for folder in ("home", "bin", "index"):
        (place / folder).mkdir()
    (place / "bin" / "python3").symlink_to(python[0])
    for wheel in index.glob("*.whl"):
        shutil.copy(wheel, place / "index")
    settings = ("CONTAINERS_CONF", "BUILDAH_RUNTIME")
    environment = {
        name: podman.environment[name] for name in settings if name in podman.environment
    }
    environment |= {
        "PATH": f"{place / 'bin'}:{PATH}",
        "HOME": str(place / "home"),
        "LANG": "C.UTF-8",
        "PIP_FIND_LINKS": str(place / "index"),
        "PIP_NO_INDEX": "1",
    }
    return Machine(
        ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *BASH),
        environment,
    )


@pytest.fixture
def base(podman: Podman, agent_base: str) -> Iterator[None]:
    """Have the base image under the name that it is published by."""
    before = podman.run("image", "inspect", "--format={{.Id}}", BASE, check=False).stdout.strip()
    podman.run("tag", agent_base, BASE)
    yield
    podman.run("rm", "--force", "--time=0", AGENT, check=False)
    podman.run("rmi", "--force", IMAGE, check=False)
    podman.run("untag", BASE, BASE)
    if before:
        podman.run("tag", before, BASE)


def follow(blocks: list[Block], place: Path, machine: Machine) -> None:
    """Copy blocks into an empty folder, one after the other."""
    folder = place / "page"
    folder.mkdir(exist_ok=True)
    with PageShell(folder, machine) as shell:
        for block in blocks:
            follow_block(block, shell, folder)


@pytest.mark.usefixtures("base")
def test_root_gets_from_an_empty_folder_into_a_container(place: Path, machine: Machine) -> None:
    """What the page promises, with nothing but what the page says."""
    blocks = read_blocks(TUTORIAL)

    assert {block.needs for block in blocks} == {None, "install", "engine"}
    follow(blocks, place, machine)


@pytest.mark.long
def test_an_ordinary_user_gets_as_far_as_the_container(place: Path, machine: Machine) -> None:
    """Nobody should need root to try something."""
    for folder in ("page", "home"):
        (place / folder).mkdir(exist_ok=True)
        os.chown(place / folder, NOBODY, NOBODY)
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *BASH)
    command = (*machine.command[: -len(BASH)], *as_nobody)
    blocks = [block for block in read_blocks(TUTORIAL) if block.needs != "engine"]
    follow(blocks, place, Machine(command, machine.environment))

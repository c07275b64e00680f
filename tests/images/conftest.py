"""Images, built once for a run, and folders and names for the containers of a test.

Where it is root on Debian or Ubuntu, with the right to mount, containers have to run: what fails is an
error. Elsewhere these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents import REPOSITORY
from tests.images.bases import PLAIN, PYTHON, have_base
from tests.images.lockdown import Launcher
from tests.images.podman import (
    Container,
    Podman,
    holds_capability,
    make_environment,
    run_command,
)
from tests.images.sites import COURIER, Site
from tests.images.wheels import PIP, collect_wheels

TRIAL = Path(__file__).parent / "agents" / "trial"
USER = 1000
"""Of everything in the images."""

CAP_SYS_ADMIN = 1 << 21
"""capabilities(7)."""

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests' agents


BUILDS_S = 600
"""The first test waits for what the run shares: on a new machine, for a base to be downloaded."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests the time that their images take."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(BUILDS_S))


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Return the podman of this machine."""
    if not can_run_containers():
        pytest.skip("platform: not root on Debian or Ubuntu with CAP_SYS_ADMIN, so no containers")
    assert shutil.which("podman"), "podman is missing: scripts/test installs it"
    folder = tmp_path_factory.mktemp("podman")
    return Podman(make_environment(folder), folder)


@pytest.fixture(scope="session")
def python_base(podman: Podman) -> str:
    """Return the name of a Debian image with Python and pip, as small as ``python:3.11-slim``."""
    image = have_base(podman, PYTHON, PIP)
    podman.run("run", "--rm", "--network=none", image, "true")
    return image


@pytest.fixture(scope="session")
def plain_base(podman: Podman) -> str:
    """Return the name of a Debian image without Python."""
    return have_base(podman, PLAIN, PIP)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the SDK's wheel, of this tree, and those of all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    collect_wheels(folder)
    return folder


@pytest.fixture(scope="session")
def run_prefix(podman: Podman) -> Iterator[str]:
    """Return what the names of this run's images begin with; they are removed at its end."""
    prefix = f"kagent-test-{uuid.uuid4().hex[:8]}"
    yield prefix
    podman.remove_all(prefix)


@pytest.fixture(scope="session")
def agent_base(podman: Podman, python_base: str, wheels: Path, run_prefix: str) -> str:
    """Return the name of the image ``debian-slim`` of Dockerfile.base."""
    return build_target(podman, "debian-slim", python_base, wheels, run_prefix)


@pytest.fixture(scope="session")
def hello_image(podman: Podman, agent_base: str, run_prefix: str) -> str:
    """Return the name of the image of examples/hello."""
    return build_agent(
        podman, REPOSITORY / "examples" / "hello", agent_base, f"localhost/{run_prefix}/hello"
    )


@pytest.fixture(scope="session")
def trial_image(podman: Podman, agent_base: str, run_prefix: str) -> str:
    """Return the name of the image of agents/trial."""
    return build_agent(podman, TRIAL, agent_base, f"localhost/{run_prefix}/trial")


@pytest.fixture
def trial(podman: Podman, trial_image: str, agent_folder: Path, unique: str) -> Launcher:
    """Return what starts the agent agents/trial, locked down."""
    return Launcher(podman, trial_image, TRIAL, agent_folder, unique)


@pytest.fixture(scope="session")
def standing_trial(
    podman: Podman, trial_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Return the agent agents/trial in a container, locked down, for tests that leave it as it was."""
    folder = lay_out_agent_folder(tmp_path_factory.mktemp("standing") / "agent")
    name = f"kagent-test-{uuid.uuid4().hex[:8]}"
    try:
        yield Launcher(podman, trial_image, TRIAL, folder, name).start_ready()
    finally:
        podman.remove_all(name)


@pytest.fixture(scope="session")
def courier_image(podman: Podman, agent_base: str, run_prefix: str) -> str:
    """Return the name of the image of agents/courier."""
    return build_agent(podman, COURIER, agent_base, f"localhost/{run_prefix}/courier")


@pytest.fixture
def site(
    podman: Podman, courier_image: str, python_base: str, agent_folder: Path, unique: str
) -> Site:
    """Return where projects of the courier are run."""
    shutil.rmtree(agent_folder / "runtime")
    return Site(podman, courier_image, python_base, agent_folder, unique)


@pytest.fixture
def trial_site(
    podman: Podman, trial_image: str, python_base: str, agent_folder: Path, unique: str
) -> Site:
    """Return where projects of agents/trial are run."""
    shutil.rmtree(agent_folder / "runtime")
    return Site(podman, trial_image, python_base, agent_folder, unique, TRIAL)


@pytest.fixture
def agent_folder(tmp_path: Path) -> Path:
    """Return a folder with what a container mounts: runtime, logs, secrets with a vault."""
    return lay_out_agent_folder(tmp_path / "agent")


@pytest.fixture
def unique(podman: Podman) -> Iterator[str]:
    """Return a name; what has it as the beginning of its own is removed after the test."""
    name = f"kagent-test-{uuid.uuid4().hex[:8]}"
    yield name
    podman.remove_all(name)


def can_run_containers() -> bool:
    """Tell whether this is a machine where containers have to run."""
    return (
        os.geteuid() == 0
        and shutil.which("apt-get") is not None
        and holds_capability(CAP_SYS_ADMIN)
    )


def build_target(
    podman: Podman, target: str, base: str, wheels: Path, prefix: str, *options: str
) -> str:
    """Build a target of Dockerfile.base by scripts/build-images; return the image's name.

    Args:
        podman: the engine.
        target: of the Dockerfile.
        base: takes the place of its own base.
        wheels: a folder with all that is installed.
        prefix: of the image's name.
        options: more of the script's.
    """
    run_command(
        REPOSITORY / "scripts" / "build-images", target, "--engine", "podman", "--wheels", wheels,
        "--base", base, "--tag", f"localhost/{prefix}", *options, env=podman.environment,
    )  # fmt: skip
    return f"localhost/{prefix}/agent-base:{target}"


INSTALL = """\
COPY requirements.txt /agent/
RUN --mount=type=bind,from=packages,target=/packages \
    pip install --no-index --find-links /packages -r requirements.txt
"""


def build_agent(
    podman: Podman, source: Path, base: str, image: str, *, packages: Path | None = None
) -> str:
    """Build an agent's image as its author would, in a few lines; return its name.

    Args:
        podman: the engine.
        source: the agent's folder.
        base: what it is made from.
        image: its name.
        packages: a folder with wheels of all that requirements.txt names; None: there is none.
    """
    install = "" if packages is None else INSTALL
    context = [] if packages is None else [f"--build-context=packages={packages}"]
    podman.run(
        "build", "--quiet", "--format=docker", "--network=none", f"--tag={image}", *context,
        "--file=-", source, input=f"FROM {base}\n{install}COPY . /agent/\n",
    )  # fmt: skip
    return image


def lay_out_agent_folder(folder: Path) -> Path:
    """Make the folders that an agent's container mounts, with their owners; return the folder."""
    for name in ("runtime", "logs"):
        (folder / name).mkdir(parents=True, mode=0o700)
        os.chown(folder / name, USER, USER)
    secrets = folder / "secrets"
    secrets.mkdir()
    vault = secrets / "vault.json"
    vault.write_text(json.dumps({"agent_token": TOKEN}))
    for path, mode in ((vault, 0o440), (secrets, 0o750)):
        os.chown(path, 0, USER)
        path.chmod(mode)
    return folder

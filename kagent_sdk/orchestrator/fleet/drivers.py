"""The two ways to run a replica: as processes of this machine, or in a container of its engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from kagent_sdk.orchestrator.fleet.client import Address, find_address
from kagent_sdk.orchestrator.fleet.ownership import read_secret

if TYPE_CHECKING:
    from kagent_sdk.config.mesh import MeshAgent
    from kagent_sdk.orchestrator.fleet.layout import Place

ENGINES = ("podman", "docker")
REMOVE_S = 30.0


def command_of(spec: MeshAgent, place: Place) -> list[str]:
    """Return the program that runs a replica, and its arguments; it blocks.

    Raises:
        OSError: of a container, the port is not written down.
    """
    words = [sys.executable, "-m", "kagent_sdk", "run", str(place.folder)]
    if spec.driver == "process":
        return words
    port = read_secret(place.port) or "0"
    words += ["--isolation", "container", "--name", place.container, "--port", port]
    words += ["--network", str(spec.network)]
    return words if spec.image is None else [*words, "--image", spec.image]


def address_of(spec: MeshAgent, place: Place, pid: int) -> Address | None:
    """Return how to reach a replica whose process has this number; None before it listens; it blocks."""
    if spec.driver == "process":
        found = find_address(place)
        return None if found is None or found.pid != pid else found
    try:
        port, token = read_secret(place.port), read_secret(place.token)
    except OSError:
        return None
    if port is None or not place.host_file.exists():
        return None
    return Address(pid, f"http://127.0.0.1:{port}", token)


def remove_container(place: Place) -> None:
    """Remove what is left of a replica's container, running or not; it blocks."""
    for engine in filter(shutil.which, ENGINES):
        force = ["--force", "--time=0"] if engine == "podman" else ["--force"]
        try:
            subprocess.run(
                [engine, "rm", *force, place.container],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=REMOVE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue

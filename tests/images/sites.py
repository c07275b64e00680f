"""Agents between two networks for tests: one that leads out, and the mesh; a server on each."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kagent_sdk.config import read_config
from kagent_sdk.deploy.compose import FILE, render
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.settings import read_settings
from tests.images.podman import Container, Podman, most_processes, run_command

COURIER = Path(__file__).parent / "agents" / "courier"

PORT = 8080

SERVE = f"""
import http.server, json
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"page")
with http.server.HTTPServer(("", {PORT}), Page) as server:
    print(json.dumps({{"event": "serving"}}), flush=True)
    server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A compose project, and what is around it.

    Attributes:
        podman: the engine.
        folder: of the compose file.
        name: of the agent.
    """

    podman: Podman
    folder: Path
    name: str

    def compose(self, *words: str) -> None:
        """Run podman-compose."""
        run_compose(self.podman, self.folder, *words)

    def container(self, service: str) -> Container:
        """Return the container of a service."""
        return Container(self.podman, f"{self.name}_{service}_1")

    @property
    def agent(self) -> Container:
        """The agent's."""
        return self.container(self.name)

    @property
    def egress(self) -> Container:
        """The egress proxy's."""
        return self.container(f"{self.name}-egress")

    @property
    def outside(self) -> Container:
        """That of the server on the ordinary network, of a project with neighbours."""
        return Container(self.podman, f"{self.name}-dest")


def run_compose(podman: Podman, folder: Path, *words: str) -> None:
    """Run podman-compose with all the files of a folder, which names the project."""
    files = [f"--file={path.name}" for path in sorted(folder.glob("*.yaml"))]
    run_command(
        *(sys.executable, "-m", "podman_compose", "--in-pod=false", *files, *words),
        env=podman.environment,
        cwd=folder,
        timeout_s=120,
    )


@dataclass(frozen=True, slots=True)
class Site:
    """Where projects of the courier are run."""

    podman: Podman
    image: str
    base: str
    agent_folder: Path
    name: str
    source: Path = COURIER

    @contextmanager
    def running(
        self, *settings: str, has_neighbours: bool = False, **more: Any
    ) -> Iterator[Project]:
        """Run the project between its two networks.

        Args:
            settings: words behind ``--set``.
            has_neighbours: there is a server on either network, ``dest.example.com`` and
                ``peer.internal``.
            more: keys of the agent's service, beside those that are exported.
        """
        folder = self.write(settings, more)
        # A subnet that is no one's private one: to the rules an address in it is one of the internet.
        subnet = f"11.{random.randrange(256)}.{random.randrange(256)}.0/24"  # noqa: S311 - no secret
        self.podman.run("network", "create", f"--subnet={subnet}", f"{self.name}_outside")
        self.podman.run("network", "create", "--internal", f"{self.name}-mesh")
        if has_neighbours:
            self.serve(f"{self.name}_outside", "dest.example.com")
            self.serve(f"{self.name}-mesh", "peer.internal")
        project = Project(self.podman, folder, self.name)
        project.compose("up", "-d")
        try:
            if project.egress.name in self.podman.find("container", self.name):
                project.egress.wait_logged("egress_listening")
            project.agent.wait_ready()
            yield project
        finally:
            project.compose("down", "--volumes")

    def write(self, settings: tuple[str, ...], more: dict[str, Any]) -> Path:
        """Write the compose file, and what this machine has to say besides; return their folder."""
        folder = self.agent_folder / self.name
        folder.mkdir()
        config = read_config(self.source, environ={}).config.model_copy(update={"name": self.name})
        given = (f"image={self.image}", f"mesh={self.name}-mesh", *settings)
        vault = f"vault={self.agent_folder / 'secrets'}"
        rendering = render(describe(config, "", read_settings((*given, vault))))
        for name, text in rendering.files.items():
            (folder / name).write_text(text)
        services: dict[str, dict[str, Any]] = {
            name: {} for name in yaml.safe_load(rendering.files[FILE])["services"]
        }
        most = most_processes()
        for service in services.values():
            if most is not None:
                service["ulimits"] = {"nproc": most}
        services[self.name] |= more
        (folder / "machine.yaml").write_text(yaml.safe_dump({"services": services}))
        return folder

    def serve(self, network: str, alias: str) -> Container:
        """Run a server of one page on a network, under a name."""
        container = self.podman.start(
            f"{self.name}-{alias.partition('.')[0]}",
            *(f"--network={network}", f"--network-alias={alias}", self.base),
            *("python3", "-c", SERVE),
        )
        container.wait_logged("serving")
        return container


def address_of(container: Container) -> str:
    """Return a container's address on its network."""
    return container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

"""The generated compose file under podman-compose: one way out, peers on the mesh, nothing else."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kagent_sdk.config import read_config
from kagent_sdk.deploy.compose import FILE, render
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.settings import read_settings
from tests.images.conftest import TRIAL, build_agent
from tests.images.podman import Container, Podman, most_processes, run_command
from tests.images.test_limits import (
    BUSY_S,
    LIMIT_BYTES,
    assert_memory_is_told,
    one_core_is_used,
)
from tests.integration.waiting import wait_until

COURIER = Path(__file__).parent / "agents" / "courier"

FINE = {"in_force", "not_asked_for"}

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

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).close()
except OSError as exc:
    sys.exit(f"blocked: {exc}")
print("reached")
"""


@pytest.fixture(scope="session")
def courier_image(podman: Podman, agent_base: str, run_prefix: str) -> str:
    """Return the name of the image of agents/courier."""
    return build_agent(podman, COURIER, agent_base, f"localhost/{run_prefix}/courier")


@dataclass(frozen=True, slots=True)
class Project:
    """A compose project, and what is around it.

    Attributes:
        podman: the engine.
        folder: of the compose file.
        name: of the agent.
        outside, peer: servers on the ordinary network and on the mesh.
    """

    podman: Podman
    folder: Path
    name: str
    outside: Container
    peer: Container

    def compose(self, *words: str) -> None:
        """Run podman-compose."""
        files = [f"--file={path.name}" for path in sorted(self.folder.glob("*.yaml"))]
        run_command(
            *(sys.executable, "-m", "podman_compose", "--in-pod=false", *files, *words),
            env=self.podman.environment,
            cwd=self.folder,
            timeout_s=120,
        )

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
    def running(self, *settings: str, **more: Any) -> Iterator[Project]:
        """Run the project, with a server on either side of it.

        Args:
            settings: words behind ``--set``.
            more: keys of the agent's service, beside those that are exported.
        """
        folder = self.write(settings, more)
        # A subnet that is no one's private one: to the rules an address in it is one of the internet.
        subnet = f"11.{random.randrange(256)}.{random.randrange(256)}.0/24"  # noqa: S311 - no secret
        self.podman.run("network", "create", f"--subnet={subnet}", f"{self.name}_outside")
        self.podman.run("network", "create", "--internal", f"{self.name}-mesh")
        project = Project(
            self.podman,
            folder,
            self.name,
            self.serve(f"{self.name}_outside", "dest.example.com"),
            self.serve(f"{self.name}-mesh", "peer.internal"),
        )
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


def address_of(container: Container) -> str:
    """Return a container's address on its network."""
    return container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")


def test_nothing_leaves_but_through_the_egress_container(site: Site) -> None:
    """The allow-list is held by two proxies and by the lack of any route; peers are reached directly."""
    with site.running() as project:
        outside = address_of(project.outside)
        allowed = project.agent.call("fetch", f"url=http://dest.example.com:{PORT}/")
        peer = project.agent.call("fetch", f"url=http://peer.internal:{PORT}/")
        refused = project.agent.call("fetch", "url=http://dest.example.com:8081/")
        past = project.agent.call("reach", f"host={outside}", f"port:={PORT}")
        where = ("python3", "-c", CONNECT, outside, str(PORT))
        free = project.egress.exec(*where)
        held = project.agent.exec(*where, check=False)
        through = [record["destination"] for record in project.egress.records("egress_closed")]

    assert (allowed, peer) == ("page", "page")
    assert refused == "403 not_listed"
    assert past.startswith("PermissionError")
    assert free.stdout.strip() == "reached"
    assert held.stderr.strip() == "blocked: [Errno 101] Network is unreachable"
    assert through == [f"dest.example.com:{PORT}"]


@pytest.mark.parametrize("storage", ["volume", "ephemeral"])
def test_every_control_is_in_force(site: Site, storage: str) -> None:
    """An operator looks at one place, and it is green: no finding has to be explained away."""
    with site.running(f"storage={storage}") as project:
        wait_until(lambda: bool(project.agent.status()["sandbox"]["controls"]))
        sandbox = project.agent.status()["sandbox"]
        mounts = project.agent.exec("cat", "/proc/mounts").stdout

    loose = {
        each["control"]: each["actual"]
        for each in sandbox["controls"]
        if each["verdict"] not in FINE
    }
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts.splitlines()}

    assert loose == {}
    assert sandbox["holds"]
    for folder in ("/agent/runtime", "/agent/logs", "/agent/secrets", "/tmp", "/run"):  # noqa: S108
        # podman-compose 1.6 passes no noexec on for a named volume.
        is_volume = storage == "volume" and folder in {"/agent/runtime", "/agent/logs"}
        wanted = {"nosuid", "nodev"} if is_volume else {"noexec", "nosuid", "nodev"}
        assert wanted <= set(options[folder]), folder
    assert [options[folder][0] for folder in ("/agent/runtime", "/agent/secrets", "/tmp")] == [  # noqa: S108
        *("rw", "ro", "ro"),
    ]


def test_both_containers_end_in_order(site: Site) -> None:
    """Exit code 0 is what tells an engine not to start them again."""
    with site.running() as project:
        project.compose("stop")
        codes = project.agent.exit_code, project.egress.exit_code
        last = project.egress.records("egress_stopped")

    assert codes == (0, 0)
    assert len(last) == 1


def test_memory_and_cores_end_at_the_limit(trial_site: Site) -> None:
    """The file's limits are the kernel's, and what it did is found out by the next boot."""
    env = {
        "AGENT_LIMITS__MEMORY_SOFT_RATIO": "1.0",  # else the task is refused in time
        "AGENT_WORKER__CRASH_LIMIT": "1",
        "AGENT_WORKER__STABLE_S": "1000",
    }
    with trial_site.running(environment=env) as project:
        agent = project.agent
        agent.exec(
            "kos-agent", "call", "eat", f"limit_bytes:={2 * LIMIT_BYTES}", "--async", check=False
        )
        wait_until(lambda: len(agent.records("host_started")) == 2)
        wait_until(lambda: agent.exec("kos-agent", "health", check=False).returncode == 0)
        last_exit = agent.status()["last_exit"]
        words = ("kind=threads", f"seconds:={BUSY_S}")
        wait_until(lambda: agent.status()["workers"]["ready"] == 1)
        has_one_core = one_core_is_used(lambda: agent.call("spin", *words))

    assert has_one_core
    assert_memory_is_told(last_exit, is_host_killed=last_exit["host"]["cause"] == "killed")

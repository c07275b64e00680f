"""The images that agents are made from, built as a maintainer builds them: scripts/build-images."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.images.layers import Layer, from_line
from tests.agents import REPOSITORY
from tests.images.lockdown import Launcher
from tests.images.node_image import have_node_image
from tests.images.podman import Podman, run_command

pytestmark = pytest.mark.timeout(900)

SHARE_BYTES = 60_000_000
"""What the SDK may add to a base, unpacked."""

HELLO = REPOSITORY / "examples" / "hello"

LOOK = """
import json, os, stat
from pathlib import Path

agents, risen, capable, writable = [], [], [], []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in {"/proc", "/sys", "/dev"}]
    for name in [*folders, *files]:
        path = os.path.join(folder, name)
        facts = os.lstat(path)
        if facts.st_uid == 1000:
            agents.append(path)
        if facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
            risen.append(path)
        if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o022:
            writable.append(path)
        if stat.S_ISREG(facts.st_mode) and "security.capability" in os.listxattr(path, follow_symlinks=False):
            capable.append(path)

places = ["/agent", "/agent/runtime", "/agent/runtime/cache", "/agent/runtime/data", "/agent/logs",
          "/agent/secrets", "/debug", "/opt/agent", "/usr/share/kos/sbom.spdx.json"]
caches = ["/var/lib/apt/lists", "/var/cache/apt", "/var/log", "/root", "/tmp", "/var/tmp", "/agent/runtime"]
print(json.dumps({
    "agents": sorted(agents), "risen": risen, "capable": capable, "writable": writable,
    "places": {p: f"{os.stat(p).st_mode & 0o7777:04o} {os.stat(p).st_uid}:{os.stat(p).st_gid}" for p in places},
    "left": [str(p) for folder in caches for p in Path(folder).rglob("*")
             if p.is_file() and not p.name.startswith(".")],
}))
"""

STALE = """
import importlib.util, sys
from pathlib import Path

import kagent_sdk

packages = Path(kagent_sdk.__file__).parent.parent
library = Path(importlib.util.__file__).parent.parent
def is_fit(source):
    compiled = Path(importlib.util.cache_from_source(source))
    # 1: by the hash of the source, never looked at again (PEP 552); 0: by its date.
    if not compiled.exists():
        return False
    head = compiled.read_bytes()[:16]
    dated = int.from_bytes(head[8:12], "little") == int(source.stat().st_mtime)
    return head[4] == 1 or (head[4] == 0 and dated)

sources = [*packages.glob("kagent_sdk/**/*.py"), *packages.glob("aiohttp/*.py"), *library.glob("json/*.py"),
           *library.glob("asyncio/*.py")]
assert len(sources) > 200, len(sources)
print([str(source) for source in sources if not is_fit(source)])
"""


@dataclass(frozen=True, slots=True)
class Images:
    """What `scripts/build-images` has made.

    Attributes:
        podman: the engine that has them.
        prefix: of their names.
        layers: its report.
    """

    podman: Podman
    prefix: str
    layers: list[Layer]

    def name(self, target: str) -> str:
        """Return the name of a target's image."""
        return f"{self.prefix}/agent-base:{target}"

    def run(self, target: str, *words: str, user: str = "0:0") -> str:
        """Run a command in a new container of a target, without a network; return its output."""
        command, *arguments = words
        options = ("--rm", "--network=none", "--read-only", f"--user={user}")
        return self.podman.run(
            "run", *options, f"--entrypoint={command}", self.name(target), *arguments
        ).stdout

    def look(self, target: str) -> dict[str, Any]:
        """Return what `LOOK` sees in a target's image."""
        found = json.loads(self.run(target, "python3", "-c", LOOK))
        assert isinstance(found, dict)
        return found

    def bill(self, target: str) -> dict[str, Any]:
        """Return the packages of a target's bill of materials, by their name."""
        text = self.run(target, "cat", "/usr/share/kos/sbom.spdx.json", user="1000:1000")
        return {package["name"]: package for package in json.loads(text)["packages"]}


def build_images(podman: Podman, report: Path, *words: str | Path) -> None:
    """Run scripts/build-images."""
    script = REPOSITORY / "scripts" / "build-images"
    run_command(script, *words, "--engine", "podman", "--report", report, env=podman.environment)


@pytest.fixture(scope="session")
def whole_wheels(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheels with pip's, for a base that has none."""
    folder = tmp_path_factory.mktemp("whole-wheels")
    shutil.copytree(wheels, folder, dirs_exist_ok=True)
    lock = REPOSITORY / "scripts" / "images" / "pip.txt"
    run_command(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        f"--dest={folder}", "-r", lock, env=os.environ,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def images(
    podman: Podman,
    python_base: str,
    whole_wheels: Path,
    run_prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Images:
    """Return the images debian-slim and node."""
    report = tmp_path_factory.mktemp("build") / "report"
    prefix = f"localhost/{run_prefix}/kos"
    build_images(
        podman, report, "debian-slim", "node", "--wheels", whole_wheels, "--base", python_base,
        "--node", have_node_image(podman), "--tag", prefix,
    )  # fmt: skip
    return Images(podman, prefix, [from_line(line) for line in report.read_text().splitlines()])


@pytest.fixture(scope="session")
def ubuntu_like(
    podman: Podman,
    plain_base: str,
    whole_wheels: Path,
    run_prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Images:
    """Return the image ubuntu, on a distribution that brings its own Python."""
    report = tmp_path_factory.mktemp("ubuntu") / "report"
    prefix = f"localhost/{run_prefix}/plain"
    build_images(
        podman, report, "ubuntu", "--python", "distribution", "--network", "host", "--wheels",
        whole_wheels, "--base", plain_base, "--tag", prefix,
    )  # fmt: skip
    return Images(podman, prefix, [from_line(line) for line in report.read_text().splitlines()])


def check_layout(found: dict[str, Any]) -> None:
    """Hold what `LOOK` has seen against what all images promise."""
    assert found["places"] == {
        "/agent": "0755 0:0",
        "/agent/runtime": "0700 1000:1000",
        "/agent/runtime/cache": "0700 1000:1000",
        "/agent/runtime/data": "0700 1000:1000",
        "/agent/logs": "0700 1000:1000",
        "/agent/secrets": "0750 0:1000",
        "/debug": "0700 1000:1000",
        "/opt/agent": "0755 1000:1000",
        "/usr/share/kos/sbom.spdx.json": "0644 0:0",
    }
    assert found["agents"] == [
        "/agent/logs",
        "/agent/runtime",
        "/agent/runtime/cache",
        "/agent/runtime/data",
        "/debug",
        "/opt/agent",
    ]
    assert found["risen"] == []
    assert found["capable"] == []
    assert found["writable"] == []
    assert found["left"] == []


@pytest.mark.parametrize("target", ["debian-slim", "node"])
def test_an_image_belongs_to_root_but_for_what_an_agent_writes(images: Images, target: str) -> None:
    """Code that its own process can change is code that an intruder keeps."""
    check_layout(images.look(target))


def test_an_image_on_another_distribution_is_laid_out_the_same(ubuntu_like: Images) -> None:
    """Manifests, and the host's audit, know one layout."""
    check_layout(ubuntu_like.look("ubuntu"))


def test_an_image_says_what_it_is_and_how_to_run_it(images: Images) -> None:
    """Engines, registries and scanners read it from the configuration alone."""
    text = images.podman.run("image", "inspect", images.name("debian-slim")).stdout
    config = json.loads(text)[0]["Config"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])

    assert config["User"] == "1000:1000"
    assert config["WorkingDir"] == "/agent"
    assert config["Entrypoint"] == ["kos-agent", "run"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "kos-agent", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    assert config["Labels"]["org.opencontainers.image.created"].endswith("Z")
    for name in (
        "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR",
        "HF_HOME", "TORCH_HOME", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR",
    ):  # fmt: skip
        assert environment[name].startswith("/agent/runtime/cache"), name


def test_the_bill_of_materials_names_what_is_installed(images: Images) -> None:
    """A flaw in a library is found by it, in images that were built long ago."""
    listed = json.loads(images.run("debian-slim", "pip", "list", "--format=json"))
    bill = images.bill("debian-slim")

    for package in listed:
        assert bill[package["name"].lower().replace("_", "-")]["versionInfo"] == package["version"]
    assert bill["libc6"]["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libc6@2")
    assert len(bill["aiohttp"]["checksums"][0]["checksumValue"]) == 64
    assert bill["kagent-sdk"]["licenseDeclared"] == "Apache-2.0"
    assert images.run("debian-slim", "pip", "check").strip() == "No broken requirements found."


def test_an_image_starts_without_compiling_anything(images: Images, ubuntu_like: Images) -> None:
    """A root that nobody may write to never keeps what Python compiles: it would at each start."""
    assert images.run("debian-slim", "python3", "-c", STALE).strip() == "[]"
    assert ubuntu_like.run("ubuntu", "python3", "-c", STALE).strip() == "[]"


def test_the_share_of_the_sdk_is_small(images: Images, ubuntu_like: Images) -> None:
    """It is pulled on each node that runs an agent."""
    for layers, target in ((images.layers, "debian-slim"), (ubuntu_like.layers, "ubuntu")):
        own = [
            layer
            for layer in layers
            if layer.target == target and layer.name != "base" and "Python" not in layer.name
        ]

        assert len(own) == 2
        assert sum(layer.size_bytes for layer in own) <= SHARE_BYTES


def test_the_same_input_makes_the_same_image(
    images: Images, python_base: str, whole_wheels: Path, tmp_path: Path
) -> None:
    """Who distrusts an image can build it again and compare one number."""
    prefix = f"{images.prefix}-again"
    build_images(
        images.podman, tmp_path / "report", "debian-slim", "--no-cache", "--wheels", whole_wheels,
        "--base", python_base, "--tag", prefix,
    )  # fmt: skip

    first, second = (
        images.podman.run("image", "inspect", "--format={{.Id}} {{.Digest}}", name).stdout
        for name in (images.name("debian-slim"), f"{prefix}/agent-base:debian-slim")
    )

    assert first == second


def test_three_lines_make_the_image_of_an_agent(
    images: Images, agent_folder: Path, unique: str, tmp_path: Path
) -> None:
    """Packages of the author's are installed beside the SDK's, which count as installed."""
    agent = shutil.copytree(HELLO, tmp_path / "agent-source")
    make_package(agent / "wheels", tmp_path)
    (agent / "requirements.txt").write_text("--no-index\n--find-links wheels\ngreetings==1.0\n")
    text = (agent / "entrypoint.py").read_text()
    (agent / "entrypoint.py").write_text(
        text.replace(
            "agent = Agent()", "import greetings\n\nprint(greetings.__file__)\nagent = Agent()"
        )
    )
    (agent / "Dockerfile").write_text(
        f"FROM {images.name('debian-slim')}\n"
        "RUN --mount=type=bind,target=/source cd /source && pip install -r requirements.txt\n"
        "COPY . /agent/\n"
    )
    image = f"localhost/{unique}/three"
    built = images.podman.run(
        "build", "--format=docker", "--network=none", f"--tag={image}", agent
    ).stdout

    container = Launcher(images.podman, image, agent, agent_folder, unique).start_ready()
    health = container.exec("kos-agent", "health")
    checked = images.podman.run("healthcheck", "run", container.name)
    owners = container.exec("stat", "--format=%u %a", "/agent/entrypoint.py").stdout

    assert "Requirement already satisfied: pydantic" in built
    assert "/opt/agent/lib/python3.11/site-packages/greetings" in container.logs()
    assert health.stdout == "healthy\n"
    assert checked.returncode == 0
    assert owners == "0 644\n"
    assert container.exec("touch", "/opt/agent/x", check=False).returncode == 1
    assert container.stop() == 0


def test_an_agent_that_is_not_there_is_not_healthy(images: Images) -> None:
    """The health check says no by its exit code, in an image as elsewhere."""
    done = images.podman.run(
        "run", "--rm", "--network=none", "--read-only", "--entrypoint=kos-agent",
        images.name("debian-slim"), "health", check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "no agent is running" in done.stderr


def test_a_node_program_is_an_agent(
    images: Images, agent_folder: Path, unique: str, tmp_path: Path
) -> None:
    """Hybrid agents have a worker in JavaScript, supervised and confined like any other."""
    agent = tmp_path / "agent-source"
    agent.mkdir()
    (agent / "config.yaml").write_text(
        "name: nodes\nworker:\n  command: [node, main.js]\n  notify: false\n"
    )
    (agent / "main.js").write_text(
        'console.log(JSON.stringify({ event: "node_runs", version: process.version }));\n'
        "setInterval(() => {}, 1000);\n"
        'process.on("SIGTERM", () => process.exit(0));\n'
    )
    image = f"localhost/{unique}/nodes"
    images.podman.run(
        "build", "--format=docker", "--network=none", f"--tag={image}", "--file=-", agent,
        input=f"FROM {images.name('node')}\nCOPY . /agent/\n",
    )  # fmt: skip

    container = Launcher(images.podman, image, agent, agent_folder, unique).start_ready()
    record = container.wait_logged("node_runs")

    assert int(record["version"].removeprefix("v").split(".")[0]) >= 20
    assert container.stop() == 0
    assert images.bill("node")["nodejs"]["versionInfo"] == record["version"].removeprefix("v")
    assert images.run("node", "npm", "--version", user="1000:1000").strip()


def test_an_agent_runs_on_a_distribution_that_brings_its_own_python(
    ubuntu_like: Images, agent_folder: Path, unique: str
) -> None:
    """Who has to build on a distribution of the house's gets the same agent."""
    image = f"localhost/{unique}/hello"
    ubuntu_like.podman.run(
        "build", "--format=docker", "--network=none", f"--tag={image}", "--file=-", HELLO,
        input=f"FROM {ubuntu_like.name('ubuntu')}\nCOPY . /agent/\n",
    )  # fmt: skip

    container = Launcher(ubuntu_like.podman, image, HELLO, agent_folder, unique).start_ready()

    assert container.call("greet", "name=Ada")["text"] == "Hello, Ada!"
    assert container.stop() == 0
    assert ubuntu_like.bill("ubuntu")["python3"]["versionInfo"].startswith("3.11")


def make_package(folder: Path, work: Path) -> None:
    """Put the wheel of a package that needs some of the SDK's own into a folder."""
    source = work / "greetings-source"
    (source / "greetings").mkdir(parents=True)
    (source / "greetings" / "__init__.py").write_text('WORDS = "Good morning"\n')
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "greetings"\nversion = "1.0"\ndependencies = ["pydantic>=2"]\n'
    )
    run_command(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}",
        source, env=os.environ,
    )  # fmt: skip

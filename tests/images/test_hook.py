"""The hook under podman with runc: it starts what is locked down, and nothing that is loosened."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kagent_sdk.deploy.oci_hook import CONFIGURATION, PROGRAM, render
from kagent_sdk.deploy.seccomp import profile_text
from tests.images.podman import Podman
from tests.unit.deploy.bundles import deploy

pytestmark = pytest.mark.timeout(120)

LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
"""Where they cannot be raised."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What a container is started with.

    Attributes:
        podman: the engine.
        image: with a program `true`.
        folder: of the hook, its JSON, the profile, and what is mounted.
        name: of the container, which is removed at its end.
    """

    podman: Podman
    image: str
    folder: Path
    name: str

    def start(self, flags: list[str], *, with_hook: bool) -> subprocess.CompletedProcess[str]:
        """Run `true` in a container with these flags."""
        hooks = ["--hooks-dir", str(self.folder / "hooks")] if with_hook else []
        words = ["run", "--rm", "--name", self.name, "--annotation", "io.kos.agent=true"]
        return self.podman.run(*hooks, *words, *flags, self.image, "true", check=False)

    def flags(self, loosened: dict[str, str | None], more: list[str]) -> list[str]:
        """Return the flags of a container that is locked down, but for what is loosened."""
        flags: dict[str, str | None] = {
            "user": "1000:1000",
            "read-only": "true",
            "read-only-tmpfs": "false",
            "cap-drop": "ALL",
            "security-opt=no-new-privileges": "",
            "security-opt=seccomp": str(self.folder / "seccomp.json"),
            "memory": "512m",
            "memory-swap": "512m",
            "cpus": "1",
            "pids-limit": "160",
            "ulimit=core": "0:0",
            "ulimit=nofile": "1024:1024",
            "ulimit=nproc": "4096:4096",
            "network": "none",
            "volume": f"{self.folder}/runtime:/agent/runtime:rw,noexec,nosuid,nodev",
        }
        flags |= loosened
        words = [
            f"--{name}={value}" if value else f"--{name}"
            for name, value in flags.items()
            if value is not None
        ]
        return words + [word.replace("FOLDER", str(self.folder)) for word in more]


@pytest.fixture(scope="module")
def prefix(podman: Podman) -> Iterator[str]:
    """Return what the names of all containers here begin with: one look at the end for what is left."""
    start = f"kagent-test-{uuid.uuid4().hex[:8]}"
    yield start
    podman.remove_all(start)


@pytest.fixture
def rig(podman: Podman, python_base: str, prefix: str, tmp_path: Path) -> Rig:
    """Install the hook of a plain agent in a folder of this test's own."""
    rendering = render(deploy(hook_path=str(tmp_path / PROGRAM)))
    # Of its own: podman takes every .json there for the description of a hook.
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / CONFIGURATION).write_text(rendering.files[CONFIGURATION])
    (tmp_path / PROGRAM).write_text(rendering.files[PROGRAM])
    (tmp_path / PROGRAM).chmod(0o755)
    (tmp_path / "seccomp.json").write_text(profile_text(deploy()), encoding="utf-8")
    for folder in ("runtime", "other"):
        (tmp_path / folder).mkdir()
    return Rig(podman, python_base, tmp_path, f"{prefix}-{uuid.uuid4().hex[:4]}")


def test_a_container_that_is_locked_down_starts(rig: Rig) -> None:
    """A hook that refuses our own flags would be taken out again."""
    ended = rig.start(rig.flags({}, []), with_hook=True)

    assert ended.returncode == 0, ended.stderr


def test_a_container_on_a_network_of_the_engine_starts(rig: Rig) -> None:
    """Its namespace is one that the engine has made, and named by a path."""
    ended = rig.start(rig.flags({"network": "podman"}, []), with_hook=True)

    assert ended.returncode == 0, ended.stderr


def test_a_container_without_the_annotation_is_none_of_our_business(rig: Rig) -> None:
    """The machine runs others too."""
    words = ["run", "--rm", "--name", rig.name, *LIMITS, rig.image, "true"]
    ended = rig.podman.run("--hooks-dir", rig.folder / "hooks", *words, check=False)

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("control", "loosened", "more"),
    [
        pytest.param("user", {"user": "0:0"}, [], id="root"),
        pytest.param("user", {}, ["--group-add=0"], id="group"),
        pytest.param("root", {"read-only": None}, [], id="writable-root"),
        pytest.param("new_privileges", {"security-opt=no-new-privileges": None}, [], id="setuid"),
        pytest.param("capabilities", {}, ["--cap-add=NET_RAW"], id="capability"),
        pytest.param("seccomp", {"security-opt=seccomp": "unconfined"}, [], id="no-filter"),
        pytest.param("seccomp", {"security-opt=seccomp": None}, [], id="looser-filter"),
        pytest.param("memory", {"memory": "1g", "memory-swap": "1g"}, [], id="more-memory"),
        pytest.param("memory", {"memory": None, "memory-swap": None}, [], id="all-memory"),
        pytest.param("memory", {"memory-swap": "-1"}, [], id="swap"),
        pytest.param("cpu", {"cpus": "2"}, [], id="more-cores"),
        pytest.param("cpu", {"cpus": None}, [], id="all-cores"),
        pytest.param("processes", {"pids-limit": "-1"}, [], id="processes"),
        pytest.param("namespaces", {}, ["--pid=host"], id="pid-namespace"),
        pytest.param("namespaces", {"network": "host"}, [], id="network-namespace"),
        pytest.param("namespaces", {}, ["--ipc=host"], id="ipc-namespace"),
        pytest.param("namespaces", {}, ["--uts=host"], id="uts-namespace"),
        pytest.param("devices", {}, ["--device=/dev/zero:/dev/extra"], id="device"),
        pytest.param("devices", {}, ["--device-cgroup-rule=c 10:* rwm"], id="device-rule"),
        pytest.param("mounts", {}, ["--volume=FOLDER/other:/data"], id="writable-folder"),
        pytest.param("mounts", {}, ["--volume=/etc:/machine:ro"], id="folder-of-the-machine"),
        pytest.param("mounts", {}, ["--tmpfs=/work"], id="tmpfs"),
        pytest.param("mounts", {"read-only-tmpfs": "true"}, [], id="usual-tmpfs"),
        pytest.param("mounts", {"volume": "FOLDER/other:/agent/runtime"}, [], id="executable"),
        pytest.param("masked_paths", {}, ["--security-opt=unmask=ALL"], id="unmasked"),
        pytest.param("rlimits", {"ulimit=core": "-1:-1"}, [], id="core-files"),
        pytest.param("environment", {}, ["--env=AGENT_SANDBOX__MODE=off"], id="sandbox-off"),
        pytest.param("sysctl", {}, ["--sysctl=kernel.shmmax=1024"], id="sysctl"),
        pytest.param("capabilities", {}, ["--privileged"], id="privileged"),
    ],
)
def test_a_container_with_one_loosened_flag_does_not_start(
    rig: Rig, control: str, loosened: dict[str, str | None], more: list[str]
) -> None:
    """The engine would start it: only then is it the hook that has refused."""
    if "volume" in loosened:
        loosened = {"volume": f"{rig.folder}/other:/agent/runtime"}
    flags = rig.flags(loosened, more)
    without = rig.start(flags, with_hook=False)
    refused = rig.start(flags, with_hook=True)

    assert without.returncode == 0, without.stderr
    assert refused.returncode == 126
    assert f"kos-agent-hook: refused: {control}: found " in refused.stderr

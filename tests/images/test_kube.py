"""The manifest for Kubernetes, played by podman: what it says of the Pod is in force inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.kubernetes import MAIN, WAY_OUT, render
from kagent_sdk.deploy.seccomp import profile_text
from kagent_sdk.deploy.settings import Settings
from tests.images.conftest import TOKEN, USER
from tests.images.lockdown import Launcher
from tests.images.podman import Container, Podman, run_command
from tests.images.test_limits import (
    BUSY_S,
    LIMIT_BYTES,
    SPIN_BESIDE,
    assert_memory_is_told,
    one_core_is_used,
    read_peak_bytes,
)
from tests.images.test_lockdown import CONNECT, FINE
from tests.integration.waiting import wait_until

PROFILE = "agent.json"

CALL = """
import json, sys, urllib.request
request = urllib.request.Request(
    f"http://{sys.argv[1]}:8080/v1/capabilities/recall", data=b"{}",
    headers={"Authorization": "Bearer " + sys.argv[2]},
)
print(urllib.request.urlopen(request, timeout=20).status)
"""

SUBNET, SERVER = "51.99.77.0/24", "51.99.77.10"
"""An internal network with addresses of the internet: the way out connects to no others."""

CONNECT_BY_PROXY = """
import socket, sys
with socket.create_connection((sys.argv[1], 3128), timeout=20) as connection:
    connection.sendall(f"CONNECT {sys.argv[2]} HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n".encode())
    print(connection.recv(1000).decode())
"""


@dataclass(frozen=True, slots=True)
class Player:
    """Plays manifests of the agent agents/trial on a network without a way out.

    Attributes:
        podman: the engine.
        image: of the agent.
        name: of the agent, of its network, and what the names of its volumes begin with.
        folder: for files of the test.
        vault: the secrets.
    """

    podman: Podman
    image: str
    name: str
    folder: Path
    vault: Mapping[str, str] = field(default_factory=lambda: {"agent_token": TOKEN})

    def describe(self, config: dict[str, Any] | None = None) -> Deployment:
        """Return the deployment of the agent."""
        settings = {"for_podman": True, "image": self.image, "seccomp_profile": PROFILE}
        return describe(
            AgentConfig.model_validate({"name": self.name, **(config or {})}),
            "trial",
            Settings.model_validate(settings),
        )

    def play(
        self,
        *,
        config: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> Container:
        """Play the agent's manifest as it was exported, and return before the agent is ready.

        Args:
            config: keys of config.yaml.
            env: variables for what the image's own config.yaml does not say.
            folders: of the machine, by where they are inside.
        """
        self.podman.run("network", "create", "--internal", self.name)
        self._make_vault()
        return self.play_file(MAIN, self.describe(config), [self.name], env, folders)

    def play_file(
        self,
        file: str,
        deployment: Deployment,
        networks: list[str],
        env: dict[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> Container:
        """Play one file of the export; return the container of its Deployment."""
        path = self.folder / file
        path.write_text(_add(render(deployment).files[file], env or {}, folders or {}))
        profiles = self.folder / "profiles"
        profiles.mkdir(exist_ok=True)
        (profiles / PROFILE).write_text(profile_text(deployment))
        words = [f"--network={network}" for network in networks]
        self.podman.run("play", "kube", f"--seccomp-profile-root={profiles}", *words, path)
        # Podman's releases differ in what they put between the two.
        kind = "agent" if file == MAIN else "egress"
        names = self.podman.find("container", self.name)
        (name,) = [each for each in names if each.endswith(f"-{kind}")]
        return Container(self.podman, name)

    def _make_vault(self) -> None:
        """Do what the note of the export says, word for word."""
        secrets = self.folder / "secrets"
        secrets.mkdir()
        (secrets / "vault.json").write_text(json.dumps(dict(self.vault)))
        note = render(self.describe()).notes[0]
        _, _, command = note.partition(": ")
        run_command("sh", "-ec", command, env=self.podman.environment, cwd=self.folder)


@pytest.fixture
def player(podman: Podman, trial_image: str, unique: str, tmp_path: Path) -> Player:
    """Return what plays the manifest of agents/trial."""
    return Player(podman, trial_image, unique, tmp_path)


def test_a_played_pod_is_locked_down(player: Player) -> None:
    """What the manifest asks for is in force, and the agent says so itself."""
    container = player.play()
    container.wait_ready()
    wait_until(lambda: bool(container.status()["sandbox"]["controls"]))
    sandbox = container.status()["sandbox"]
    loose = {
        each["control"]: each["actual"]
        for each in sandbox["controls"]
        if each["verdict"] not in FINE
    }
    health = player.podman.run("healthcheck", "run", container.name, check=False)
    unshare = container.exec("unshare", "--user", "true", check=False)

    # Podman takes no number of processes from a manifest; the worker's own limit holds.
    assert loose in (
        {},
        {"cgroup": "memory 512 MiB, cores 1, processes not limited"},
    )
    assert sandbox["holds"]
    assert health.returncode == 0, health.stdout
    assert "Operation not permitted" in unshare.stderr
    assert container.inspect("{{.HostConfig.ReadonlyRootfs}}") == "true"
    assert container.inspect("{{.HostConfig.PortBindings}}") == "map[]"


def test_a_played_pod_is_reached_on_its_network_alone(
    player: Player, podman: Podman, python_base: str
) -> None:
    """Peers of the mesh call it; it calls nobody outside."""
    container = player.play()
    container.wait_ready()
    pod = container.name.removesuffix("-agent")
    peer = podman.run(
        "run", "--rm", f"--network={player.name}", python_base, "python3", "-c", CALL, pod, TOKEN
    )
    route = container.exec("cat", "/proc/net/route").stdout.splitlines()

    assert peer.stdout.strip() == "200"
    assert not any(line.split()[1] == "00000000" for line in route[1:])


def test_memory_of_a_played_pod_ends_at_the_limit_and_the_next_boot_says_so(
    player: Player,
) -> None:
    """The manifest's limit is the kernel's, and what it did is found out."""
    container = player.play(
        env={
            "AGENT_LIMITS__MEMORY_SOFT_RATIO": "1.0",  # else the task is refused in time
            "AGENT_WORKER__CRASH_LIMIT": "1",
            "AGENT_WORKER__STABLE_S": "1000",
        }
    )
    container.wait_ready()
    container.exec(
        "kos-agent", "call", "eat", f"limit_bytes:={2 * LIMIT_BYTES}", "--async", check=False
    )
    # Its restart policy is Always, as a Deployment's is.
    wait_until(lambda: len(container.records("host_started")) == 2)
    wait_until(lambda: container.exec("kos-agent", "health", check=False).returncode == 0)
    last_exit = container.status()["last_exit"]

    assert read_peak_bytes(container) <= LIMIT_BYTES
    assert_memory_is_told(last_exit, is_host_killed=last_exit["host"]["cause"] == "killed")


def test_a_played_pod_has_one_core(player: Player) -> None:
    """The limit is the container's: it holds for whatever runs there."""
    container = player.play()
    container.wait_ready()

    beside = ("python3", "-c", SPIN_BESIDE)
    worker = ("kind=threads", f"seconds:={BUSY_S}")
    assert one_core_is_used(lambda: json.loads(container.exec(*beside).stdout))
    assert one_core_is_used(lambda: container.call("spin", *worker))


def test_what_a_played_agent_keeps_outlives_its_pod(player: Player) -> None:
    """The claim is a volume that the next one finds."""
    container = player.play()
    container.wait_ready()
    container.call("remember", "text=a word")
    player.podman.run("pod", "rm", "--force", container.inspect("{{.Pod}}"))

    kept = player.podman.run(
        "run", "--rm", "--network=none", "--entrypoint=ls",
        f"--volume={player.name}-runtime:/agent/runtime", player.image, "/agent/runtime",
    )  # fmt: skip

    assert "memory_store.json" in kept.stdout.split()


def test_a_played_allow_list_has_one_way_out(
    player: Player, podman: Podman, python_base: str
) -> None:
    """The agent is on a network without a route; what leaves is what the way out connects to."""
    outside = f"{player.name}-outside"
    podman.run("network", "create", "--internal", f"--subnet={SUBNET}", outside)
    podman.run(
        "run", "--detach", f"--name={player.name}-server", f"--network={outside}:ip={SERVER}",
        python_base, "python3", "-m", "http.server", "8000",
    )  # fmt: skip
    allow = [f"{SERVER}:8000"]
    config = {"sandbox": {"network": {"allow": allow}}}
    env = {"AGENT_SANDBOX__NETWORK__ALLOW": json.dumps(allow)}
    agent = player.play(config=config, env=env)
    way_out = f"{player.name}:alias={player.name}-egress"
    player.play_file(WAY_OUT, player.describe(config), [way_out, outside], env).wait_logged(
        "egress_listening"
    )
    agent.wait_ready()
    ask = ("python3", "-c", CONNECT_BY_PROXY, f"{player.name}-egress")
    passed = agent.exec(*ask, *allow).stdout
    refused = agent.exec(*ask, f"{SERVER}:8001").stdout
    direct = agent.exec("python3", "-c", CONNECT, SERVER, "8000", check=False)

    assert passed.startswith("HTTP/1.1 200")
    assert refused.startswith("HTTP/1.1 403")
    assert "Network is unreachable" in direct.stderr


def test_an_agent_lives_on_volumes_as_the_kubelet_makes_them(trial: Launcher) -> None:
    """They are root's and the group's of ``fsGroup``; a Secret is links, swapped while it runs."""
    for name in ("runtime", "logs"):
        os.chown(trial.folder / name, 0, USER)
        (trial.folder / name).chmod(0o2775)
    secrets = trial.folder / "secrets"
    (secrets / "vault.json").unlink()
    (secrets / "vault.json").symlink_to("..data/vault.json")
    _swap_secret(secrets, "..2026_11_30", TOKEN)
    secrets.chmod(0o3777)
    container = trial.start_ready()
    before = container.call("recall")
    _swap_secret(secrets, "..2026_12_01", TOKEN[::-1])
    container.wait_logged("vault_reloaded")
    wait_until(lambda: bool(container.status()["sandbox"]["controls"]))
    controls = {
        each["control"]: each["verdict"] for each in container.status()["sandbox"]["controls"]
    }

    assert before is None
    assert container.call("recall") is None
    assert controls["vault"] == controls["files"] == "in_force"
    assert (trial.folder / "runtime" / "journal.db").exists()


def _swap_secret(folder: Path, name: str, token: str) -> None:
    """Put a Secret's files in place as the kubelet does (its atomic writer): all at once."""
    (folder / name).mkdir(mode=0o755)
    vault = folder / name / "vault.json"
    vault.write_text(json.dumps({"agent_token": token}))
    os.chown(vault, 0, USER)
    vault.chmod(0o440)
    (folder / "..data_tmp").symlink_to(name)
    (folder / "..data_tmp").rename(folder / "..data")


def _add(text: str, env: Mapping[str, str], folders: Mapping[str, Path]) -> str:
    """Add variables and folders to every container of a manifest, and change nothing else."""
    if not env and not folders:
        return text
    documents = list(yaml.safe_load_all(text))
    more = [{"name": name, "value": value} for name, value in env.items()]
    named = {f"added-{number}": each for number, each in enumerate(folders.items())}
    mounts = [{"name": name, "mountPath": target} for name, (target, _) in named.items()]
    volumes = [{"name": name, "hostPath": {"path": str(at)}} for name, (_, at) in named.items()]
    for document in documents:
        if document["kind"] == "Deployment":
            spec = document["spec"]["template"]["spec"]
            spec["volumes"] = spec.get("volumes", []) + volumes
            for container in spec["containers"]:
                container["env"] = container.get("env", []) + more
                container["volumeMounts"] = container.get("volumeMounts", []) + mounts
    return yaml.safe_dump_all(documents)

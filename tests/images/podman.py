"""Podman for tests: containers, images and networks, on a machine that may have no systemd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_DEADLINE_S = 60.0
"""Two shared, noisy cores: a start takes two seconds."""

RUN_DEADLINE_S = 600.0
"""For one command; a build may install packages."""

MOST_PROCESSES = 4096
"""RLIMIT_NPROC of containers where it cannot be raised; the user's, in all containers together."""

CAP_SYS_RESOURCE = 1 << 24
"""capabilities(7)."""


class PodmanError(AssertionError):
    """A command of podman failed; the message holds what it wrote."""


@dataclass(frozen=True, slots=True)
class Podman:
    """Runs podman, with the settings that this machine needs.

    Attributes:
        environment: of every command.
        folder: where each is run: conmon leaves a file ``oom`` there when the kernel kills.
    """

    environment: Mapping[str, str]
    folder: Path

    def run(
        self,
        *words: str | Path,
        check: bool = True,
        input: str | None = None,
        timeout_s: float = RUN_DEADLINE_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``podman WORDS`` and return what it wrote.

        Raises:
            PodmanError: it did not end with 0, and ``check`` is set.
        """
        return run_command(
            "podman",
            *words,
            env=self.environment,
            check=check,
            input=input,
            timeout_s=timeout_s,
            cwd=self.folder,
        )

    def start(self, name: str, *words: str | Path) -> Container:
        """Start a container in the background: ``podman run --detach --name=NAME WORDS``."""
        named = [] if f"--name={name}" in words else [f"--name={name}"]
        self.run("run", "--detach", *named, *words)
        return Container(self, name)

    def has_image(self, name: str) -> bool:
        """Tell whether there is an image of a name."""
        return self.run("image", "exists", name, check=False).returncode == 0

    def find(self, kind: str, prefix: str) -> list[str]:
        """Return the names of all ``container``s, ``pod``s, ``network``s or ``volume``s with a prefix."""
        column = "{{.Names}}" if kind == "container" else "{{.Name}}"
        every = ["--all"] if kind == "container" else []
        names = self.run(kind, "ls", *every, "--format", column).stdout.split()
        return sorted(name for name in names if name.startswith(prefix))

    def remove_all(self, prefix: str) -> None:
        """Remove every container, pod, network, volume and image whose name has a prefix."""
        kinds = ("pod", "container", "network", "volume")
        with ThreadPoolExecutor(len(kinds)) as lookers:  # each takes its time to start
            pods, containers, *others = lookers.map(lambda kind: self.find(kind, prefix), kinds)
        for name in pods:
            self.run("pod", "rm", "--force", "--time=0", name)
        for name in containers:  # those of a pod have gone with it
            self.run("rm", "--force", "--time=0", "--volumes", name, check=False)
        for kind, names in zip(("network", "volume"), others, strict=True):
            for name in names:
                self.run(kind, "rm", "--force", name)
        start = f"localhost/{prefix}"
        # Without filters it looks at all the layers of all images, which takes seconds.
        found = self.run(
            "images", *(f"--filter=reference={start}{rest}" for rest in ("*", "*/*", "*/*/*")),
            "--format={{.Repository}}:{{.Tag}}", check=False,
        )  # fmt: skip
        images = [name for name in found.stdout.split() if name.startswith(start)]
        if images:
            self.run("rmi", "--force", *images, check=False)


@dataclass(slots=True)
class Container:
    """A container that a test started; `Podman.start` makes one."""

    podman: Podman
    name: str

    def exec(
        self, *words: str | Path, check: bool = True, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        stdin = [] if input is None else ["--interactive"]
        return self.podman.run("exec", *stdin, self.name, *words, check=check, input=input)

    def call(self, capability: str, *words: str) -> Any:
        """Call a capability by ``kos-agent call`` inside; words are ``name=text`` or ``name:=json``."""
        return json.loads(self.exec("kos-agent", "call", capability, *words, "--json").stdout)

    def status(self) -> Any:
        """Return the agent's ``/status``."""
        return json.loads(self.exec("kos-agent", "status", "--json").stdout)

    def read_task(self, id: str) -> Any:
        """Return a task of the agent."""
        return json.loads(self.exec("kos-agent", "tasks", id, "--json").stdout)

    def inspect(self, template: str) -> str:
        """Return what ``podman inspect --format TEMPLATE`` says."""
        return self.podman.run("inspect", "--format", template, self.name).stdout.strip()

    @property
    def pid(self) -> int:
        """The process id of its PID 1 on the machine."""
        return int(self.inspect("{{.State.Pid}}"))

    def logs(self) -> str:
        """Return everything that it has written so far."""
        done = self.podman.run("logs", self.name)
        return done.stdout + done.stderr

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the log records of an event, written so far."""
        lines = (line for line in self.logs().splitlines() if line.startswith("{"))
        return [record for record in map(json.loads, lines) if record.get("event") == event]

    def wait_logged(self, event: str, *, timeout_s: float = START_DEADLINE_S) -> dict[str, Any]:
        """Wait until the log, since it was started last, has a record of an event; return the first.

        Raises:
            PodmanError: it ended without, or took too long; the message holds the log.
        """
        with self._following(timeout_s) as lines:
            for line in lines:
                record = _parse_record(line)
                if record.get("event") == event:
                    return record
        raise PodmanError(f"{self.name} logged no {event}:\n{self.logs()[-6000:]}")

    def wait_ready(self) -> None:
        """Wait until the agent inside takes tasks."""
        self.wait_logged("worker_ready")

    def start(self) -> None:
        """Start it again, after it has ended."""
        self.podman.run("start", self.name)

    def stop(self, timeout_s: int = 30) -> int:
        """Stop it as an engine does, by SIGTERM and a kill after ``timeout_s``; return its exit code."""
        self.podman.run("stop", f"--time={timeout_s}", self.name)
        return self.exit_code

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        return int(self.podman.run("wait", self.name).stdout)

    @property
    def exit_code(self) -> int:
        """What it ended with."""
        return int(self.inspect("{{.State.ExitCode}}"))

    def remove(self) -> None:
        """End it at once and remove it."""
        self.podman.run("rm", "--force", "--time=0", "--volumes", self.name)

    @contextmanager
    def _following(self, timeout_s: float) -> Iterator[Iterator[str]]:
        """Give the lines of its log as they come, until it ends or the time is over."""
        started_at = self.inspect(
            '{{.State.StartedAt.Format "2006-01-02T15:04:05.999999999Z07:00"}}'
        )
        process = subprocess.Popen(
            ["podman", "logs", "--follow", f"--since={started_at}", self.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self.podman.environment),
            text=True,
        )
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            try:
                yield iter(process.stdout)
            finally:
                timer.cancel()
                timer.join()
                process.kill()


def run_command(
    *words: str | Path,
    env: Mapping[str, str],
    check: bool = True,
    input: str | None = None,
    timeout_s: float = RUN_DEADLINE_S,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it wrote.

    Raises:
        PodmanError: it did not end with 0, and ``check`` is set.
    """
    done = subprocess.run(
        words,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        check=False,
        env=dict(env),
        cwd=cwd,
        timeout=timeout_s,
    )
    if check and done.returncode != 0:
        command = " ".join(map(str, words))
        raise PodmanError(f"{command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def make_environment(folder: Path) -> dict[str, str]:
    """Return the environment of podman and of what builds with it.

    Args:
        folder: takes a ``containers.conf`` where this machine's defaults would not work.
    """
    environment = dict(os.environ)
    settings = needed_settings()
    if settings:
        path = folder / "containers.conf"
        path.write_text(settings)
        environment["CONTAINERS_CONF"] = str(path)
    if 'runtime = "runc"' in settings:
        environment["BUILDAH_RUNTIME"] = "runc"
    return environment


def needed_settings() -> str:
    """Return the text of a containers.conf for this machine; empty: it needs none."""
    containers, engine = [], []
    if not holds_capability(CAP_SYS_RESOURCE):
        # Podman raises both to its own maximum, which is over ours.
        ulimits = f'["nofile=4096:4096", "nproc={MOST_PROCESSES}:{MOST_PROCESSES}"]'
        containers.append(f"default_ulimits = {ulimits}")
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and shutil.which("runc"):
        # crun 1.8 refuses hybrid cgroups: "cgroups in hybrid mode not supported".
        engine.append('runtime = "runc"')
    if not Path("/run/systemd/system").exists():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    parts = [("[containers]", containers), ("[engine]", engine)]
    return "".join("\n".join([head, *lines]) + "\n" for head, lines in parts if lines)


def most_processes() -> int | None:
    """Return what ``--ulimit=nproc`` has to be on this machine; None: nothing.

    Ulimits on the command line take the place of those in containers.conf, this one too.
    """
    return None if holds_capability(CAP_SYS_RESOURCE) else MOST_PROCESSES


def holds_capability(bit: int) -> bool:
    """Tell whether this process has a capability, by its bit (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(int(mask, 16) & bit)


def _parse_record(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    record = json.loads(line)
    assert isinstance(record, dict)
    return record

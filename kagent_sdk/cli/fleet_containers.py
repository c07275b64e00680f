"""Containers for the fleet of `kos-agent up`: its port, by way of what deploy makes and engines do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from threading import Timer
from typing import TYPE_CHECKING

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.container_run import Container, Wishes, prepare_container
from kagent_sdk.cli.engines import RUNNERS, find_engine, find_image
from kagent_sdk.cli.launch import Launch
from kagent_sdk.cli.text import clean_line
from kagent_sdk.config import read_config
from kagent_sdk.deploy.deployment import AGENT_FOLDER, describe
from kagent_sdk.deploy.engine_flags import Mount
from kagent_sdk.deploy.settings import read_settings
from kagent_sdk.errors import DeployError, OrchestratorError
from kagent_sdk.orchestrator.fleet.containers import SNAPSHOTS_INSIDE, ContainerOrder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REMOVE_S = 30.0
RESTORE_S = 600.0
MAX_SAID_BYTES = 64 * 1024
MAX_REASON_CHARS = 500
SHOWN_CHARS = 19
"""Of the id of an image."""


class EngineContainers:
    """Runs replicas by the first engine that is there.

    A `kagent_sdk.orchestrator.fleet.containers.Containers`; everything blocks.
    """

    def find_image(self, folder: Path, wanted: str | None, environ: Mapping[str, str]) -> str:
        """Return the id of the image that the agent in a folder has at this moment."""
        with _translated():
            engine = find_engine(None, RUNNERS)
            settings = read_settings([] if wanted is None else [f"image={wanted}"])
            config = read_config(folder, environ=environ).config
            name = describe(config, folder.name, settings).image
            image = find_image(engine, name)
            if image is None:
                raise OrchestratorError(
                    f"{engine} has no image {name}; make it with kos-agent build, then update"
                )
            found = image.get("Id")
            return found if isinstance(found, str) and found else name

    def command(self, order: ContainerOrder) -> list[str]:
        """Return the command that runs a replica's container in the foreground."""
        with _translated():
            return self._prepare(order, order.network, order.port).command()

    def restore(self, order: ContainerOrder, snapshot: str) -> str | None:
        """Restore a snapshot in a container that does nothing else; return why that failed."""
        with _translated():
            container = self._prepare(order, "none", None)
        words = ("snapshot", "restore", f"{SNAPSHOTS_INSIDE}/{snapshot}", AGENT_FOLDER)
        try:
            code, said = _run(container.command(*words, entrypoint="kos-agent"), order)
        except OSError as exc:
            return exc.strerror or str(exc)
        if code == 0:
            return None
        if code == -signal.SIGKILL:
            self.remove(order.name)
            return f"it took longer than {RESTORE_S:.0f} s"
        return said

    def remove(self, name: str) -> None:
        """Remove a container, running or not; one that is not there is no error."""
        for engine in filter(shutil.which, RUNNERS):
            force = ["--force", "--time=0"] if engine == "podman" else ["--force"]
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [engine, "rm", *force, name],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=REMOVE_S,
                    check=False,
                )

    def _prepare(self, order: ContainerOrder, network: str, port: int | None) -> Container:
        launch = Launch(order.folder, port=port)
        wishes = Wishes(order.image, network=network, name=order.name)
        kept = () if order.snapshots is None else (_mount(order.snapshots),)
        try:
            return prepare_container(launch, wishes, order.environ, mounts=kept)
        except UsageError as exc:
            if exc.code != "no_image":
                raise
            raise OrchestratorError(
                f"the image of this release is gone ({clean_line(order.image)[:SHOWN_CHARS]}): make one "
                "with kos-agent build, then update"
            ) from exc


def _run(words: list[str], order: ContainerOrder) -> tuple[int, str]:
    """Run a container to its end; return its exit code and the first line that it wrote to stderr.

    Raises:
        OSError: it cannot be started.
    """
    with subprocess.Popen(
        words,
        cwd=order.folder,
        env=dict(order.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        timer = Timer(RESTORE_S, process.kill)
        timer.start()
        try:
            # What is in the image may write without end: it gets no further than this.
            said = process.stderr.read(MAX_SAID_BYTES)
            process.stderr.close()
            code = process.wait()
        finally:
            timer.cancel()
    lines = said.decode("utf-8", "replace").strip().splitlines() or ["no reason was given"]
    return code, clean_line(lines[0].removeprefix("error: "))[:MAX_REASON_CHARS]


def _mount(snapshots: Path) -> Mount:
    return Mount(os.fspath(snapshots), SNAPSHOTS_INSIDE)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (CommandError, DeployError) as exc:
        raise OrchestratorError("; ".join(str(exc).splitlines())) from exc

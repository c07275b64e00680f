"""kos-agent run --isolation container: from an agent's folder to the engine that runs its image."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.containers import FOLDER_LABEL
from kagent_sdk.cli.engines import RUNNERS, find_engine, find_image
from kagent_sdk.cli.launch import Launch, split_entrypoint
from kagent_sdk.cli.output import say
from kagent_sdk.cli.text import clean_line
from kagent_sdk.config import read_config
from kagent_sdk.config.environment import PREFIX, SEPARATOR, variable_of
from kagent_sdk.config.keys import known_keys
from kagent_sdk.deploy.deployment import AGENT_FOLDER, Deployment, describe
from kagent_sdk.deploy.engine_flags import (
    MACHINE_NETWORK,
    Engine,
    Mount,
    Surroundings,
    engine_flags,
    vault_mount,
    words_of,
)
from kagent_sdk.deploy.seccomp import profile_text
from kagent_sdk.deploy.settings import read_settings
from kagent_sdk.host.users import hand_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kagent_sdk.config.models import AgentConfig

LOOPBACK = "127.0.0.1"
NO_NETWORK = "none"
PID_MAX = Path("/proc/sys/kernel/pid_max")
OWN_FOLDERS = ("runtime", "logs")
_NOT_IN_A_MOUNT = frozenset(":,")
"""What separates the parts of an engine's flag for a mount."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says of the container.

    Attributes:
        image: its name; None: ``NAME:VERSION``.
        engine: ``podman`` or ``docker``; None: the first that is there.
        network: of the engine; None: none at all, unless the agent may connect anywhere.
        name: of the container; None: the agent's.
    """

    image: str | None = None
    engine: str | None = None
    network: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is ready to be run.

    Attributes:
        engine: that runs it.
        image: of it.
        flags: between ``run`` and the image.
        note: a line for people: what runs where.
    """

    engine: Engine
    image: str
    flags: tuple[str, ...]
    note: str

    def command(self, *arguments: str, entrypoint: str | None = None) -> list[str]:
        """Return the command that runs it in the foreground and removes it afterwards.

        Args:
            arguments: for the program in it.
            entrypoint: another program than the image's.
        """
        other = [] if entrypoint is None else [f"--entrypoint={entrypoint}"]
        words = ["run", "--rm", "--pull=never", *self.flags, *other]
        return [self.engine, *words, self.image, *arguments]


def run_container(launch: Launch, wishes: Wishes) -> NoReturn:
    """Become the engine that runs the agent's container in the foreground.

    Signals go to the host in it, and its exit code is that of this process.

    Raises:
        ConfigError, DeployError, UsageError, CommandError: see `prepare_container`.
    """
    container = prepare_container(launch, wishes, os.environ)
    say(container.note)
    _become(container.command())


def prepare_container(
    launch: Launch, wishes: Wishes, environ: Mapping[str, str], *, mounts: tuple[Mount, ...] = ()
) -> Container:
    """Make the folders that an agent's container writes, and say how an engine runs it.

    Args:
        launch: the agent's folder, and where this machine shows it.
        wishes: what else is asked for.
        environ: what the command has to be run with.
        mounts: beside those that the agent's configuration asks for.

    Raises:
        ConfigError, DeployError: the configuration is wrong, or nothing to deploy.
        UsageError: there is no engine or image, or the agent needs more than one container.
        CommandError: folders or the engine cannot be used.
    """
    folder, entrypoint = split_entrypoint(launch.path)
    folder = folder.resolve()
    config = read_config(folder, environ=environ).config
    settings = read_settings([] if wishes.image is None else [f"image={wishes.image}"])
    deployment = describe(config, folder.name, settings)
    network = choose_network(deployment, wishes.network)
    publish = choose_port(launch, deployment, network, wishes.network)
    engine = cast("Engine", find_engine(wishes.engine, RUNNERS))
    _check_image(engine, deployment.image, launch.path)
    surroundings = Surroundings(
        name=wishes.name or deployment.name,
        mounts=(*find_mounts(folder, config, deployment), *mounts),
        networks=() if network is None else (network,),
        seccomp=str(_write_profile(profile_text(deployment))),
        publish=publish,
        labels=((FOLDER_LABEL, str(folder)),),
        environment=find_environment(environ, launch, entrypoint),
        maps_user=os.geteuid() != 0,
        # Engines ask for more than a machine may have; nobody needs more than this process has.
        most_processes=_most_processes() if engine == "podman" else None,
    )
    _make_folders(folder)
    words = words_of(engine_flags(deployment, surroundings, engine))
    where = "no network" if network == NO_NETWORK else f"network {network or 'of the engine'}"
    shown = f"; it listens on {publish}" if publish else ""
    note = f"{deployment.name} runs in a container of {deployment.image} ({engine}, {where}){shown}"
    return Container(engine, deployment.image, tuple(words), note)


def choose_network(deployment: Deployment, wanted: str | None) -> str | None:
    """Return the network of the container: ``none``, one of the engine's, or None for its ordinary one.

    Raises:
        UsageError: the agent has an allow-list, and none of these would hold it; or the network is one
            that is not the container's own.
    """
    if wanted is not None:
        if wanted == MACHINE_NETWORK or ":" in wanted:
            raise UsageError(
                f"--network {clean_line(wanted)} would be no network of the container's own; name one "
                "that the engine has made"
            )
        return wanted
    if deployment.needs_proxy:
        raise UsageError(
            "the agent reaches out by sandbox.network.allow: that takes a second container as the only "
            "way out. Run both with: kos-agent export compose, or kos-agent export docker-run; "
            "or name a network that you answer for: --network NAME"
        )
    return None if deployment.policy.network.external else NO_NETWORK


def choose_port(
    launch: Launch, deployment: Deployment, network: str | None, wanted: str | None
) -> str | None:
    """Return where this machine shows the control plane; None where it does not.

    Raises:
        UsageError: a port is asked for, and the container has no network.
    """
    is_asked_for = launch.port is not None or launch.host is not None
    if network == NO_NETWORK:
        if is_asked_for:
            raise UsageError(
                "--host and --port: a container without a network shows no port; call the agent "
                "with kos-agent call -C DIR, or name a network with --network NAME"
            )
        return None
    if wanted is not None and not is_asked_for:
        return None
    port = deployment.port if launch.port is None else launch.port
    host = launch.host or LOOPBACK
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port or _free_port()}"


def find_mounts(folder: Path, config: AgentConfig, deployment: Deployment) -> tuple[Mount, ...]:
    """Return what of the machine the container sees: what the agent keeps, and its secrets.

    Raises:
        UsageError: something is not there, or no engine could mount it.
    """
    mounts = [Mount(str(_outside(folder, each.target)), each.target) for each in deployment.volumes]
    for mount in mounts[len(OWN_FOLDERS) :]:
        if not Path(mount.source).exists():
            raise UsageError(
                f'sandbox.write: there is no "{clean_line(mount.source)}"; make it first'
            )
    vault = folder / config.secrets.file
    if vault.exists():
        found = vault_mount(deployment, str(vault.parent))
        mounts += [] if found is None else [found]
    if config.http.tls is not None:
        seen = tuple(mount.target for mount in mounts)
        tls = config.http.tls
        for name in filter(None, (tls.certificate, tls.key, tls.client_ca)):
            target = name if name.startswith("/") else f"{AGENT_FOLDER}/{name}"
            if not target.startswith(tuple(f"{each}/" for each in seen)):
                mounts.append(Mount(str(folder / name), target, is_writable=False))
    for mount in mounts:
        if _NOT_IN_A_MOUNT & set(mount.source + mount.target):
            raise UsageError(
                f"no engine can mount {clean_line(mount.source)}: leave ':' and ',' out of its name"
            )
    return tuple(mounts)


def find_environment(
    environ: Mapping[str, str], launch: Launch, entrypoint: str | None
) -> tuple[tuple[str, str | None], ...]:
    """Return the variables that override keys of config.yaml, as they would without a container.

    Raises:
        UsageError: one names a file that the container does not see.
    """
    if "AGENT_TOKEN_FILE" in environ:
        raise UsageError(
            "AGENT_TOKEN_FILE names a file that the container does not see; put the token into the "
            "vault, under agent_token"
        )
    keys = known_keys()
    found: dict[str, str | None] = {}
    for name in sorted(environ):
        path = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
        if name == "AGENT_CONFIG" or (name.startswith(PREFIX) and path in keys):
            found[name] = None
    if launch.workers is not None:
        found[variable_of(("worker", "count"))] = str(launch.workers)
    if entrypoint is not None:
        found[variable_of(("entrypoint",))] = entrypoint
    return tuple(found.items())


def _outside(folder: Path, target: str) -> Path:
    """Return where something of the container is on the machine."""
    path = Path(target)
    return folder / path.relative_to(AGENT_FOLDER) if path.is_relative_to(AGENT_FOLDER) else path


def _check_image(engine: str, image: str, path: Path) -> None:
    if find_image(engine, image) is not None:
        return
    folder = "" if path == Path() else f" {clean_line(path)}"
    raise UsageError(
        f"{engine} has no image {image}; make it with: kos-agent build{folder}", code="no_image"
    )


def _make_folders(folder: Path) -> None:
    """Make what the container writes, for the user that it has inside."""
    for name in OWN_FOLDERS:
        try:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                hand_over(folder / name)
        except OSError as exc:
            raise CommandError(
                f"cannot make {clean_line(folder / name)} the agent's: {exc.strerror}"
            ) from exc


def _write_profile(text: str) -> Path:
    """Write the seccomp profile where the engine reads it, under a name of its content.

    Not into the agent's folder: what runs in the container could put a link there. Several replicas
    may be started at once, by threads of one process: each writes a file of its own, and renames it.

    Raises:
        CommandError: it cannot be written.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    name = f"seccomp-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    path = Path(cache, "kagent-sdk", name)
    temporary = path.with_suffix(f".{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as exc:
        raise CommandError(f"cannot write {clean_line(path)}: {exc.strerror}") from exc
    return path


def _most_processes() -> int | None:
    """Return as many processes as podman can give: it takes pid_max for itself (proc(5))."""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    try:
        most = int(PID_MAX.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return most if limit == resource.RLIM_INFINITY else min(limit, most)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _become(words: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(words[0], words)  # noqa: S606 - no shell: the words are a list
    except OSError as exc:
        raise CommandError(f"cannot run {words[0]}: {exc.strerror}") from exc

"""What the workers may do: from config.yaml, the agent's folder and this machine to a policy."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.config.sandbox import WRITABLE, parse_destination
from kagent_sdk.host.grounds import (
    Grounds,
    find_gpu_devices,
    find_gpu_files,
    find_grounds,
    outermost,
    resolve,
    resolve_safely,
    worker_search_path,
)
from kagent_sdk.sandbox.paths import is_within
from kagent_sdk.sandbox.policy import (
    AGENT_ID,
    Destination,
    Isolation,
    Limits,
    Mode,
    Network,
    Policy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.config.sandbox import SandboxConfig

TOKEN_FILE_VARIABLES = ("AGENT_TOKEN_FILE", "AGENT_ORCHESTRATOR_TOKEN_FILE")


@dataclass(frozen=True, slots=True)
class Secluded:
    """What of an agent the host alone may read; absolute, without links.

    Attributes:
        folders: with all that is and will be in them.
        files: whose folders hold what the worker needs as well.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the workers of one host are confined.

    Attributes:
        directory: the agent's folder, without links.
        grounds: what this machine needs for Python.
        user: what the workers become; None where they stay the caller.
        token_files: of the control plane and of the link, those that there are.
    """

    directory: str
    grounds: Grounds
    user: int | None = None
    token_files: tuple[str, ...] = ()

    def policy(self, config: AgentConfig, *, connect: tuple[int, ...] = ()) -> Policy:
        """Return what a worker of this configuration may do; its descriptors are to be added.

        A path that has gone since it was checked is left out.

        Args:
            config: of the worker's generation.
            connect: TCP ports of this machine that it may connect to: the egress proxy's.
        """
        sandbox, directory = config.sandbox, self.directory
        secluded = find_secluded(directory, config, self.token_files)
        write = self._writable(config)
        execute = outermost(
            (
                *self.grounds.execute,
                *resolve_safely(
                    (*_within(directory, sandbox.execute), *_program(directory, config)), write
                ),
            )
        )
        read = (
            directory,
            *self.grounds.read,
            *resolve_safely(_within(directory, sandbox.read), write),
            *(find_gpu_files() if config.limits.gpus else ()),
        )
        return Policy(
            mode=Mode(sandbox.mode),
            isolation=Isolation(config.worker.isolation),
            user=self.user,
            read=tuple(dict.fromkeys(read)),
            write=write,
            execute=execute,
            hidden=(*secluded.folders, *secluded.files),
            network=_network(config, connect),
            limits=limits_of(sandbox),
            devices=find_gpu_devices() if config.limits.gpus else (),
            require=sandbox.require,
        )

    def _writable(self, config: AgentConfig) -> tuple[str, ...]:
        """Return what a worker may write: outer folders first, for what is in them is granted."""
        own = resolve(os.path.join(self.directory, name) for name in WRITABLE)
        found = [*self.grounds.write, *own]
        for path in sorted(_within(self.directory, config.sandbox.write), key=len):
            found += resolve_safely((path,), found)
        return outermost(found)


def find_confinement(
    directory: Path, config: AgentConfig, environ: Mapping[str, str]
) -> Confinement:
    """Return how the workers of an agent are confined on this machine, without a proxy.

    Args:
        directory: the agent's folder.
        config: the agent's configuration.
        environ: the host's environment.
    """
    becomes_agent = config.worker.user == "agent" and os.geteuid() in {0, AGENT_ID}
    return Confinement(
        directory=os.path.realpath(directory),
        grounds=find_grounds(worker_search_path()),
        user=AGENT_ID if becomes_agent else None,
        token_files=tuple(
            os.path.realpath(environ[name]) for name in TOKEN_FILE_VARIABLES if environ.get(name)
        ),
    )


def find_secluded(directory: str, config: AgentConfig, token_files: Sequence[str]) -> Secluded:
    """Return what of an agent no worker may read, whatever config.yaml allows.

    A folder that holds a secret is left out as a whole, unless the agent's own is in it.
    """
    folders = [os.path.join(directory, "runtime"), os.path.join(directory, "logs")]
    destination = config.snapshots.destination
    if "://" not in destination:
        folders.append(os.path.join(directory, destination))
    secrets = [os.path.join(directory, config.secrets.file)]
    if config.http.tls is not None:
        secrets.append(os.path.join(directory, config.http.tls.key))
    link_tls = config.orchestrator.tls
    if link_tls is not None and link_tls.key is not None:
        secrets.append(os.path.join(directory, link_tls.key))
    secrets += token_files
    files = []
    for secret in secrets:
        folder = os.path.realpath(os.path.dirname(secret))
        if _is_of_secrets_alone(folder, directory, config):
            folders.append(folder)
        files.append(secret)
    hidden = outermost(os.path.realpath(folder) for folder in folders)
    real = dict.fromkeys(os.path.realpath(file) for file in files)
    return Secluded(
        hidden,
        tuple(file for file in real if not any(is_within(file, folder) for folder in hidden)),
    )


def _is_of_secrets_alone(folder: str, directory: str, config: AgentConfig) -> bool:
    """Tell whether a folder with a secret can be left out whole: no code is in it."""
    if folder.startswith("/run/secrets"):
        return True
    code = (directory, os.path.realpath(os.path.join(directory, config.entrypoint)))
    return is_within(folder, directory) and not any(is_within(path, folder) for path in code)


def _network(config: AgentConfig, connect: tuple[int, ...]) -> Network:
    network = config.sandbox.network
    unix = network.unix_sockets
    if unix is None:
        unix = config.worker.isolation == "bwrap" or _notifies(config)
    return Network(
        external=network.external,
        allow=tuple(Destination(*parse_destination(entry)) for entry in network.allow),
        listen=network.listen,
        connect=connect,
        unix_sockets=unix,
    )


def _within(directory: str, paths: tuple[str, ...]) -> list[str]:
    return [os.path.join(directory, path) for path in paths]


def _program(directory: str, config: AgentConfig) -> list[str]:
    """Return where the program of ``worker.command`` is, if there is one."""
    command = config.worker.command
    if command is None:
        return []
    if "/" in command[0]:
        return [os.path.join(directory, command[0])]
    found = shutil.which(command[0])
    return [] if found is None else [found]


def _notifies(config: AgentConfig) -> bool:
    return config.worker.command is not None and config.worker.notify


def limits_of(sandbox: SandboxConfig) -> Limits:
    """Return the limits of a policy."""
    limits = sandbox.limits
    return Limits(
        cpu_cores=limits.cpu,
        memory_bytes=limits.memory_bytes,
        processes=limits.processes,
        open_files=limits.open_files,
        file_bytes=limits.file_bytes,
    )

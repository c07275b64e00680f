"""What every manifest of an agent is made from, as frozen data. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kagent_sdk.config.sandbox import parse_destination
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.errors import DeployError
from kagent_sdk.sandbox.paths import is_within
from kagent_sdk.sandbox.policy import AGENT_ID, Destination, Isolation, Limits, Network, Policy

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig

AGENT_FOLDER = "/agent"
"""Where the images have the agent."""

MAX_TAG = 128
"""Of an image's tag, as registries take it."""

MAX_NAME = 63
"""Of a DNS label (RFC 1123)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder that the agent writes.

    Attributes:
        name: a DNS label.
        target: in the container; absolute.
        is_kept: it outlives the container.
    """

    name: str
    target: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """One agent, as all kinds of manifests tell of it.

    Attributes:
        name: a DNS label, after the agent's name.
        version: the agent's own.
        image: of the agent.
        port: of the control plane, in the container.
        has_tls: it speaks HTTPS.
        has_client_ca: and only with who shows a certificate.
        has_auth: a caller needs the agent's token.
        grace_s: what its shutdown takes at most.
        policy: the worker's; its paths are this machine's and mean nothing in a container.
        gpus: how many it is given.
        volumes: what it writes, outermost first.
        vault: the file of secrets in the container; None: it has none.
        link_files: names of the files of ``orchestrator.tls`` in the vault's folder, which is mounted
            as a whole; what lies elsewhere has to be in the image.
        environment: variables of the container, beside the image's.
        settings: what differs per environment.
    """

    name: str
    version: str
    image: str
    port: int
    has_tls: bool
    has_client_ca: bool
    has_auth: bool
    grace_s: float
    policy: Policy
    gpus: int
    volumes: tuple[Volume, ...]
    vault: str | None
    link_files: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    settings: Settings

    @property
    def vault_text(self) -> str:
        """What has to be in the vault's folder, for people."""
        return f"the vault and {', '.join(self.link_files)}" if self.link_files else "the vault"

    @property
    def needs_proxy(self) -> bool:
        """Whether an egress proxy is its way out: the only one."""
        return bool(self.policy.network.allow) and not self.policy.network.external


def describe(config: AgentConfig, name: str, settings: Settings) -> Deployment:
    """Return what manifests are made from.

    Args:
        config: the agent's configuration; what it says is not looked up on this machine.
        name: of the agent's folder, where the configuration has no name.
        settings: what differs per environment.

    Raises:
        DeployError: there is no port to deploy.
    """
    if config.http.port == 0:
        raise DeployError("http.port is 0, a free one: name a port, for others must find it")
    label = to_label(config.name or name)
    return Deployment(
        name=label,
        version=config.version,
        image=settings.image or f"{label}:{to_tag(config.version)}",
        port=config.http.port,
        has_tls=config.http.tls is not None,
        has_client_ca=config.http.tls is not None and config.http.tls.client_ca is not None,
        has_auth=config.http.auth != "none",
        grace_s=config.shutdown.grace_s,
        policy=policy_of(config),
        gpus=config.limits.gpus,
        volumes=_volumes(config, is_kept=settings.storage == "volume"),
        vault=_inside(config.secrets.file) if needs_vault(config) else None,
        link_files=_link_files(config),
        environment=_environment(config),
        settings=settings,
    )


def to_label(name: str) -> str:
    """Return the DNS label that is nearest to a name (RFC 1123)."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_NAME].strip("-")
    return label or "agent"


def to_tag(version: str) -> str:
    """Return the tag of an image that is nearest to a version (128 of letters, digits and ``_.-``)."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", version).lstrip(".-")[:MAX_TAG] or "latest"


def policy_of(config: AgentConfig) -> Policy:
    """Return what of a worker's policy does not depend on the machine: network and limits."""
    network, limits = config.sandbox.network, config.sandbox.limits
    return Policy(
        isolation=Isolation.PROCESS,  # the container has the namespaces
        user=AGENT_ID,
        network=Network(
            external=network.external,
            allow=tuple(Destination(*parse_destination(entry)) for entry in network.allow),
            listen=network.listen,
            unix_sockets=bool(network.unix_sockets) or config.worker.command is not None,
        ),
        limits=Limits(
            cpu_cores=limits.cpu,
            memory_bytes=limits.memory_bytes,
            processes=limits.processes,
            open_files=limits.open_files,
            file_bytes=limits.file_bytes,
        ),
    )


def needs_vault(config: AgentConfig) -> bool:
    """Tell whether an agent of this configuration does not start, or not work, without a vault."""
    secrets = config.secrets
    return bool(
        config.http.auth != "none"
        or secrets.required
        or secrets.expose
        or config.sandbox.network.inject
        or config.callbacks.allow
        or config.orchestrator.url is not None  # the token to show there
    )


def _link_files(config: AgentConfig) -> tuple[str, ...]:
    tls, folder = config.orchestrator.tls, PurePosixPath(_inside(config.secrets.file)).parent
    if tls is None or config.orchestrator.url is None:
        return ()
    paths = [PurePosixPath(_inside(name)) for name in (tls.ca, tls.certificate, tls.key) if name]
    return tuple(str(path.relative_to(folder)) for path in paths if path.is_relative_to(folder))


def _volumes(config: AgentConfig, *, is_kept: bool) -> tuple[Volume, ...]:
    ours = [Volume(name, f"{AGENT_FOLDER}/{name}", is_kept=is_kept) for name in ("runtime", "logs")]
    targets = [volume.target for volume in ours]
    others = sorted({_inside(path) for path in config.sandbox.write})
    wanted = [path for path in others if not any(is_within(path, at) for at in ("/dev", *targets))]
    outer = [path for path in wanted if not any(is_within(path, at) for at in wanted if at != path)]
    ours += [
        Volume(f"data-{number}", path, is_kept=is_kept) for number, path in enumerate(outer, 1)
    ]
    return tuple(ours)


def _environment(config: AgentConfig) -> tuple[tuple[str, str], ...]:
    # Namespaces in namespaces would need what the container takes away.
    return (("AGENT_WORKER__ISOLATION", "process"),) if config.worker.isolation == "bwrap" else ()


def _inside(path: str) -> str:
    return path if path.startswith("/") else f"{AGENT_FOLDER}/{path}"

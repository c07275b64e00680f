"""From a deployment to the words between ``podman run`` (or ``docker run``) and the image. Pure.

In a container the host and its workers have the same user, file system and limits: what an engine is
told is what both need together. The workers are confined once more inside, by the same policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kagent_sdk.sandbox.policy import AGENT_ID, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kagent_sdk.deploy.deployment import Deployment

Engine = Literal["podman", "docker"]

PRIVILEGED_PORTS = 1024
"""Ports below it are root's, unless the kernel is told otherwise (ip(7))."""

LABEL = "io.kos.agent"
"""Of every container and image of an agent; its value is the agent's name. As an annotation of a
container, with the value ``true``, it is what the OCI hook looks for."""

MACHINE_NETWORK = "host"
"""What engines call the network of the machine itself: none for an agent."""

STOP_MARGIN_S = 5
"""Between the end of the agent's own grace and the engine's SIGKILL."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the machine, or a volume of the engine, inside the container.

    Attributes:
        source: a path with a slash, or the name of a volume; empty: a volume that goes with the
            container.
        target: inside; absolute.
        is_writable: else it is mounted read-only.
        is_handed_over: podman makes it belong to the container's user first.
    """

    source: str
    target: str
    is_writable: bool = True
    is_handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of a container is the machine's and not the agent's.

    Attributes:
        name: of the container.
        mounts: what it sees of the machine.
        networks: of the engine, that it is on; empty: the engine's ordinary one; ``none``: none.
        seccomp: the file with the profile.
        publish: ``[ADDRESS:]PORT`` of the machine that leads to the control plane; None: none does.
        labels: beside ours.
        environment: beside the deployment's; None as a value: the one that the caller has.
        maps_user: podman without root: whoever runs it is the agent's user inside.
        most_processes: what RLIMIT_NPROC is set to; None: whatever the engine does.
    """

    name: str
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    seccomp: str | None = None
    publish: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str | None], ...] = ()
    maps_user: bool = False
    most_processes: int | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """Flags of one purpose.

    Attributes:
        reason: why they are there; a line without a full stop.
        words: one flag each, its value behind ``=``.
    """

    reason: str
    words: tuple[str, ...]


def engine_flags(
    deployment: Deployment, surroundings: Surroundings, engine: Engine = "podman"
) -> tuple[Flags, ...]:
    """Return every flag of a container, by purpose; see `words_of` for a plain list.

    Args:
        deployment: of the agent.
        surroundings: where it is run.
        engine: whose flags; what Docker does not know is left out.
    """
    is_podman = engine == "podman"
    groups = (
        _identity(deployment, surroundings, is_podman=is_podman),
        Flags(
            "nothing of the image can be changed, and there is no scratch but the mounts below",
            ("--read-only", *(("--read-only-tmpfs=false",) if is_podman else ())),
        ),
        _rights(surroundings),
        _limits(deployment.policy.limits, surroundings),
        *_network(deployment, surroundings),
        *_gpus(deployment.gpus, is_podman=is_podman),
        Flags(_MOUNTS, tuple(_mount(mount, engine) for mount in surroundings.mounts)),
        Flags(
            "what this machine says on top of config.yaml",
            tuple(
                f"--env={name}" if value is None else f"--env={name}={value}"
                for name, value in (*deployment.environment, *surroundings.environment)
            ),
        ),
        Flags(
            f"a stop leaves the agent its grace of {deployment.grace_s:g} s",
            (f"--stop-timeout={stop_timeout_s(deployment)}",),
        ),
    )
    return tuple(group for group in groups if group.words)


def words_of(groups: Iterable[Flags]) -> list[str]:
    """Return the flags without their reasons."""
    return [word for group in groups for word in group.words]


def stop_timeout_s(deployment: Deployment) -> int:
    """Return for how long an engine waits between SIGTERM and SIGKILL."""
    return math.ceil(deployment.grace_s + STOP_MARGIN_S)


def vault_mount(deployment: Deployment, source: str) -> Mount | None:
    """Return the vault inside the container, or None where the agent has none.

    The folder is mounted, so that a vault that is replaced on the machine is seen inside; only where
    it is the agent's own, and holds the code as well, the file alone is.

    Args:
        deployment: of the agent.
        source: the vault's folder on the machine.
    """
    if deployment.vault is None:
        return None
    folder, _, file = deployment.vault.rpartition("/")
    if folder in {"/agent", ""}:
        return Mount(f"{source}/{file}", deployment.vault, is_writable=False)
    return Mount(source, folder, is_writable=False)


_MOUNTS = "what the agent keeps, and its secrets: no programs, no set-user-ID, no devices"


def _identity(deployment: Deployment, surroundings: Surroundings, *, is_podman: bool) -> Flags:
    words = [f"--name={surroundings.name}", f"--label={LABEL}={deployment.name}"]
    words += [f"--label={name}={value}" for name, value in surroundings.labels]
    if is_podman:
        words.append(f"--annotation={LABEL}=true")
    words.append(f"--user={AGENT_ID}:{AGENT_ID}")
    if surroundings.maps_user and is_podman:
        words.append(f"--userns=keep-id:uid={AGENT_ID},gid={AGENT_ID}")
    return Flags("which agent it is, and the user that it is: never root", tuple(words))


def _rights(surroundings: Surroundings) -> Flags:
    words = ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    if surroundings.seccomp is not None:
        words.append(f"--security-opt=seccomp={surroundings.seccomp}")
    return Flags(
        "no rights, none to be had, and only the system calls that agents need", tuple(words)
    )


def _limits(limits: Limits, surroundings: Surroundings) -> Flags:
    words = []
    if limits.memory_bytes is not None:
        # As much with swap as without: there is none beside it.
        words += [f"--memory={limits.memory_bytes}", f"--memory-swap={limits.memory_bytes}"]
    if limits.cpu_cores is not None:
        words.append(f"--cpus={limits.cpu_cores:g}")
    if limits.all_processes is not None:
        words.append(f"--pids-limit={limits.all_processes}")
    words.append("--ulimit=core=0:0")
    if limits.open_files is not None:
        words.append(f"--ulimit=nofile={limits.open_files}:{limits.open_files}")
    if surroundings.most_processes is not None:
        words.append(f"--ulimit=nproc={surroundings.most_processes}:{surroundings.most_processes}")
    return Flags("as much as sandbox.limits says, and no core files", tuple(words))


def _network(deployment: Deployment, surroundings: Surroundings) -> tuple[Flags, ...]:
    networks = tuple(f"--network={name}" for name in surroundings.networks)
    if surroundings.networks == ("none",):
        reason = "no network: nothing reaches out, and nothing in"
    else:
        reason = "the networks that it is on"
    published: tuple[str, ...] = ()
    if surroundings.publish is not None:
        published = (f"--publish={publish_address(surroundings.publish)}:{deployment.port}",)
    ports = (deployment.port, *deployment.policy.network.listen)
    unprivileged: tuple[str, ...] = ()
    if min(ports) < PRIVILEGED_PORTS:
        unprivileged = ("--sysctl=net.ipv4.ip_unprivileged_port_start=0",)
    return (
        Flags(reason, networks),
        Flags("where this machine shows the control plane", published),
        Flags("a port below 1024 takes no right in a network of one's own", unprivileged),
    )


def publish_address(where: str) -> str:
    """Return an address and port of the machine; this machine's own address where none is said."""
    return where if ":" in where else f"127.0.0.1:{where}"


def _gpus(count: int, *, is_podman: bool) -> tuple[Flags, ...]:
    if not count:
        return ()
    if is_podman:
        words = tuple(f"--device=nvidia.com/gpu={number}" for number in range(count))
        return (Flags("GPUs, by the Container Device Interface (nvidia-ctk cdi generate)", words),)
    return (Flags("GPUs, by the NVIDIA container toolkit", (f"--gpus={count}",)),)


def _mount(mount: Mount, engine: Engine) -> str:
    access = "rw" if mount.is_writable else "ro"
    # Docker takes no such options for a mount; those of the file system itself hold.
    options = "" if engine == "docker" else ",noexec,nosuid,nodev"
    if engine == "podman" and mount.is_handed_over:
        options += ",U"
    if not mount.source:
        return f"--mount=type=volume,destination={mount.target}{options}"
    return f"--volume={mount.source}:{mount.target}:{access}{options}"

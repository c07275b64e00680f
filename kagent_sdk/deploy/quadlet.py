"""kos-agent export quadlet: units for systemd, by podman's Quadlet (podman-systemd.unit(5)). Pure.

Keys that are younger than Podman 4.8 are arguments of podman: one unknown key, and there is no service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from kagent_sdk.deploy.engine_flags import LABEL, PRIVILEGED_PORTS, publish_address, stop_timeout_s
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.seccomp import PROFILE, profile_text
from kagent_sdk.deploy.topology import (
    EGRESS_CPU,
    EGRESS_FILES,
    EGRESS_MEMORY_BYTES,
    EGRESS_PROCESSES,
    EGRESS_STOP_S,
    MESH_ENDING,
    MOST_RESTARTS,
    MOUNTED,
    Networks,
    egress_command,
    egress_name,
    environment_of,
    find_networks,
    mount_text,
    scratch_bytes,
    vault_of,
)
from kagent_sdk.sandbox.policy import AGENT_ID

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

HOPELESS = (2, 3, 78)
"""Exit codes that no restart mends: wrong usage, cannot start, wrong configuration."""

RESTART_S = 5
WITHIN_S = 600
"""After `MOST_RESTARTS` starts within it the unit stays failed: 75 is an agent that crashes again and again."""

STOP_SLACK_S = 15
"""What podman may take beside the container's own stop."""

_Value = TypeVar("_Value")

Lines = list[str]
"""Of a unit, without line breaks; one that begins with ``[`` is the head of a section."""


def render(deployment: Deployment) -> Rendering:
    """Return a unit for each container, network and volume, and the seccomp profile.

    Raises:
        DeployError: the port is to be shown on the machine, and podman would not.
    """
    networks = find_networks(deployment)
    main = f"{deployment.name}.container"
    files = {main: _text(_agent(deployment, networks))}
    if deployment.needs_proxy:
        files[f"{egress_name(deployment)}.container"] = _text(_egress(deployment, networks))
    for role in networks.all:
        name = _network_name(deployment, role)
        files[f"{name}.network"] = _text(_network(name, is_internal=role != "outside"))
    for volume in deployment.volumes:
        if volume.is_kept:
            name = f"{deployment.name}-{volume.name}"
            files[f"{name}.volume"] = _text(["[Volume]", f"VolumeName={name}"])
    files[PROFILE] = profile_text(deployment)
    return Rendering(main, files, notes=_notes(deployment))


def folder_of(deployment: Deployment) -> str:
    """Return where the machine keeps what the units name: the profile, and the vault's folder."""
    return f"/srv/kos/{deployment.name}"


def _notes(deployment: Deployment) -> tuple[str, ...]:
    folder = folder_of(deployment)
    notes = [
        f"the units go to /etc/containers/systemd (Podman 4.8 or later), {PROFILE} to {folder}",
        f"then: systemctl daemon-reload && systemctl start {deployment.name}",
    ]
    vault = vault_of(deployment, f"{folder}/secrets")
    if vault is not None:
        notes.append(
            f"{vault.source} must be there, for group {AGENT_ID} alone to read, with {deployment.vault_text}"
        )
    if deployment.gpus:
        notes.append("GPUs: nvidia-ctk cdi generate has to have named them")
    return tuple(notes)


# Containers


def _agent(deployment: Deployment, networks: Networks) -> Lines:
    limits, settings = deployment.policy.limits, deployment.settings
    egress = f"{egress_name(deployment)}.service"
    ports = (deployment.port, *deployment.policy.network.listen)
    return [
        *_unit(f"agent {deployment.name} {deployment.version}"),
        *([f"Wants={egress}", f"After={egress}"] if deployment.needs_proxy else []),
        *_container(deployment, deployment.name),
        "# sandbox.limits, and no swap beside the memory.",
        *_bounds(limits.memory_bytes, limits.cpu_cores, limits.all_processes, limits.open_files),
        "# All that is kept, and the secrets: no programs, no set-user-ID, no devices.",
        *_mounts(deployment),
        "# Peers find it on the mesh by this name.",
        *(_joined(deployment, role) for role in networks.of_agent),
        *_if(
            settings.publish,
            lambda where: f"PublishPort={publish_address(where)}:{deployment.port}",
        ),
        *(
            ["Sysctl=net.ipv4.ip_unprivileged_port_start=0"]
            if min(ports) < PRIVILEGED_PORTS
            else []
        ),
        *(f"AddDevice=nvidia.com/gpu={number}" for number in range(deployment.gpus)),
        *(f"Environment={name}={value}" for name, value in environment_of(deployment).items()),
        *_life(stop_timeout_s(deployment)),
    ]


def _egress(deployment: Deployment, networks: Networks) -> Lines:
    return [
        *_unit(f"egress proxy of agent {deployment.name}: its only way out"),
        *_container(deployment, egress_name(deployment)),
        "PodmanArgs=--entrypoint=kos-agent",
        f"Exec={' '.join(egress_command())}",
        "# The image's own asks an agent, and here is none.",
        "HealthCmd=none",
        *_bounds(EGRESS_MEMORY_BYTES, EGRESS_CPU, EGRESS_PROCESSES, EGRESS_FILES),
        *(_joined(deployment, role) for role in networks.of_egress),
        *_life(EGRESS_STOP_S),
    ]


def _unit(description: str) -> Lines:
    plain = " ".join(description.split()).replace("%", "%%")
    return [
        "# By kos-agent export quadlet: write it anew, do not edit.",
        "[Unit]",
        f"Description={plain}",
        f"StartLimitIntervalSec={WITHIN_S}",
        f"StartLimitBurst={MOST_RESTARTS}",
        "Wants=network-online.target",
        "After=network-online.target",
    ]


def _container(deployment: Deployment, name: str) -> Lines:
    return [
        "[Container]",
        f"ContainerName={name}",
        f"Image={deployment.image}",
        f"Label={LABEL}={deployment.name}",
        "# The hook of kos-agent export oci-hook looks for it.",
        f"Annotation={LABEL}=true",
        "# Never root, no rights and none to be had, only the system calls that agents need; nothing of the",
        "# image can be changed, and there is no scratch but the volumes.",
        f"User={AGENT_ID}",
        f"Group={AGENT_ID}",
        "DropCapability=all",
        "NoNewPrivileges=true",
        f"SeccompProfile={folder_of(deployment)}/{PROFILE}",
        "ReadOnly=true",
        "ReadOnlyTmpfs=false",
        "# What this machine's services have as their proxies is none of the agent's.",
        "PodmanArgs=--http-proxy=false",
    ]


def _bounds(
    memory_bytes: int | None, cpus: float | None, processes: int | None, files: int | None
) -> Lines:
    return [
        *_if(memory_bytes, lambda size: f"PodmanArgs=--memory={size} --memory-swap={size}"),
        *_if(cpus, lambda cores: f"PodmanArgs=--cpus={cores:g}"),
        *_if(processes, lambda most: f"PidsLimit={most}"),
        "Ulimit=core=0:0",
        *_if(files, lambda most: f"Ulimit=nofile={most}:{most}"),
    ]


def _mounts(deployment: Deployment) -> Lines:
    lines = []
    for volume in deployment.volumes:
        if volume.is_kept:
            source = f"{deployment.name}-{volume.name}.volume"
            lines.append(f"Volume={mount_text(source, volume.target, f'rw,{MOUNTED}')}")
        else:
            options = f"rw,size={scratch_bytes(deployment)},mode=0700,U,{MOUNTED}"
            lines.append(f"PodmanArgs=--tmpfs={volume.target}:{options}")
    vault = vault_of(deployment, f"{folder_of(deployment)}/secrets")
    if vault is not None:
        lines.append(f"Volume={mount_text(vault.source, vault.target, f'ro,{MOUNTED}')}")
    return lines


def _life(stop_s: int) -> Lines:
    return [
        f"PodmanArgs=--stop-timeout={stop_s}",
        "[Service]",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        "# Wrong usage, cannot start, wrong configuration: no restart mends that.",
        f"RestartPreventExitStatus={' '.join(map(str, HOPELESS))}",
        f"TimeoutStopSec={stop_s + STOP_SLACK_S}",
        "[Install]",
        "WantedBy=multi-user.target default.target",
    ]


def _if(value: _Value | None, line: Callable[[_Value], str]) -> Lines:
    return [] if value is None else [line(value)]


# Networks


def _network(name: str, *, is_internal: bool) -> Lines:
    closed = ["# No way out.", "Internal=true"] if is_internal else []
    return ["[Network]", f"NetworkName={name}", *closed]


def _network_name(deployment: Deployment, role: str) -> str:
    return deployment.settings.mesh if role == "mesh" else f"{deployment.name}-{role}"


def _joined(deployment: Deployment, role: str) -> str:
    alias = f":alias={deployment.name}{MESH_ENDING}" if role == "mesh" else ""
    return f"Network={_network_name(deployment, role)}.network{alias}"


def _text(lines: Iterable[str]) -> str:
    """Return a unit's text: an empty line before each section but the first."""
    parts: list[str] = []
    for line in lines:
        if line.startswith("[") and parts and not parts[-1].startswith("#"):
            parts.append("")
        parts.append(line)
    return "\n".join(parts) + "\n"

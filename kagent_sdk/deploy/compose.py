"""kos-agent export compose: the agent, its way out, and an orchestrator where one is wanted. Pure.

One file for podman-compose and docker compose; `--set engine=docker` writes what only Docker takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.deploy.engine_flags import (
    LABEL,
    PRIVILEGED_PORTS,
    publish_address,
    stop_timeout_s,
)
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.seccomp import PROFILE, profile_text
from kagent_sdk.deploy.topology import (
    EGRESS_CPU,
    EGRESS_FILES,
    EGRESS_HEALTH,
    EGRESS_MEMORY_BYTES,
    EGRESS_PROCESSES,
    EGRESS_STOP_S,
    EMPTY_BYTES,
    EMPTY_FOLDERS,
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
from kagent_sdk.deploy.yaml_text import Block, comment_text, yaml_text
from kagent_sdk.sandbox.policy import AGENT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kagent_sdk.deploy.deployment import Deployment, Volume

FILE = "compose.yaml"

_ORCHESTRATOR = "orchestrator"
_SECRETS = "./secrets"


def render(deployment: Deployment) -> Rendering:
    """Return the compose file and the seccomp profile beside it.

    Raises:
        DeployError: the port is to be shown on the machine, and no engine would.
    """
    networks = find_networks(deployment)
    parts = [
        comment_text(_head(deployment)),
        yaml_text([Block({"name": deployment.name})]),
        "services:\n" + "\n".join(_services(deployment, networks)),
        yaml_text([Block({"networks": _networks(deployment, networks)}, _NETWORKS_NOTE)]),
    ]
    if any(volume.is_kept for volume in deployment.volumes):
        volumes: dict[str, object] = {
            volume.name: {} for volume in deployment.volumes if volume.is_kept
        }
        parts.append(yaml_text([Block({"volumes": volumes})]))
    return Rendering(
        FILE,
        {FILE: "\n".join(parts), PROFILE: profile_text(deployment)},
        notes=_notes(deployment),
    )


_NETWORKS_NOTE = (
    "internal: no way out. The mesh has one name for all agents of this machine; docker compose says "
    "that another project has made it, and uses it."
)


def _head(deployment: Deployment) -> str:
    url = f"http{'s' if deployment.has_tls else ''}://{deployment.name}{MESH_ENDING}"
    lines = [
        f"{deployment.name} {deployment.version}, by kos-agent export compose: write it anew, do not edit.",
        f"Needs beside it: {PROFILE}{_secrets_text(deployment)}.",
        f"The agent is called from the mesh ({url}:{deployment.port})"
        + (", from the machine as published below," if deployment.settings.publish else "")
        + " or by: podman exec CONTAINER kos-agent call CAPABILITY",
    ]
    return "\n".join(lines)


def _secrets_text(deployment: Deployment) -> str:
    vault = vault_of(deployment, _SECRETS)
    if vault is None:
        return ""
    return (
        f", and {vault.source} (root:{AGENT_ID} 0750) with vault.json in it (root:{AGENT_ID} 0440)"
    )


def _notes(deployment: Deployment) -> tuple[str, ...]:
    notes = []
    vault = vault_of(deployment, _SECRETS)
    if vault is not None:
        notes.append(
            f"{vault.source} must be there, for group {AGENT_ID} alone to read, with {deployment.vault_text}"
        )
    if deployment.gpus:
        notes.append(
            "GPUs: docker compose takes the number; podman-compose needs nvidia-ctk cdi generate"
        )
    return tuple(notes)


def _services(deployment: Deployment, networks: Networks) -> list[str]:
    texts = [_service(deployment.name, _agent(deployment, networks))]
    if deployment.needs_proxy:
        texts.append(_service(egress_name(deployment), _egress(deployment, networks)))
    if deployment.settings.orchestrator_image is not None:
        texts.append(_service(_ORCHESTRATOR, _orchestrator(deployment)))
    return texts


def _service(name: str, blocks: Iterable[Block]) -> str:
    return f"  {name}:\n{yaml_text(blocks, level=2)}"


def _agent(deployment: Deployment, networks: Networks) -> list[Block]:
    settings, limits = deployment.settings, deployment.policy.limits
    environment = environment_of(deployment)
    bounds = _bounds(limits.memory_bytes, limits.cpu_cores, limits.all_processes, limits.open_files)
    published = {}
    if settings.publish is not None:
        published = {"ports": [f"{publish_address(settings.publish)}:{deployment.port}"]}
    return [
        Block({"image": deployment.image}),
        *_locked(deployment),
        Block(bounds, "sandbox.limits, and no swap beside the memory."),
        Block(_gpus(deployment.gpus), "Docker's way; podman-compose makes CDI devices of it."),
        Block({"environment": environment} if environment else {}),
        Block(_mounts(deployment), _MOUNTS_NOTE),
        Block({"tmpfs": _tmpfs(deployment)}, _TMPFS_NOTE),
        Block(
            {"networks": {role: _alias(deployment, role) for role in networks.of_agent}},
            "The mesh: peers find it by this name, and list theirs in sandbox.network.allow.",
        ),
        Block(published, "On this machine."),
        Block(
            _low_ports(deployment), "A port below 1024 takes no right in a network of one's own."
        ),
        *_life(stop_timeout_s(deployment)),
    ]


_MOUNTS_NOTE = (
    "All that is kept, and the secrets: no programs, no set-user-ID, no devices. (podman-compose 1.6 does "
    "not pass noexec on for volumes; the workers' sandbox holds it all the same.)"
)
_TMPFS_NOTE = "Read-only and empty: there is no scratch but runtime/. Podman would lay writable memory over these."


def _egress(deployment: Deployment, networks: Networks) -> list[Block]:
    health = {"healthcheck": {"test": ["CMD", *EGRESS_HEALTH], "interval": "10s", "timeout": "5s"}}
    return [
        Block(
            {
                "image": deployment.image,
                "entrypoint": ["kos-agent"],
                "command": list(egress_command()),
            },
            "The only way out: checks sandbox.network.allow once more, and the addresses of names. It has "
            "no vault and no volumes.",
        ),
        *_without_comments(_locked(deployment)),
        Block(_bounds(EGRESS_MEMORY_BYTES, EGRESS_CPU, EGRESS_PROCESSES, EGRESS_FILES)),
        Block({"tmpfs": _empty()}),
        Block({"networks": list(networks.of_egress)}),
        Block(health, "The image's own asks an agent, and here is none."),
        *_without_comments(_life(EGRESS_STOP_S)),
    ]


def _without_comments(blocks: Iterable[Block]) -> list[Block]:
    """Return blocks that were explained once."""
    return [Block(block.members) for block in blocks]


def _orchestrator(deployment: Deployment) -> list[Block]:
    return [
        Block(
            {"image": deployment.settings.orchestrator_image},
            "It calls agents on the mesh. What it keeps and shows is its image's to say.",
        ),
        Block({"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}),
        Block({"networks": ["mesh"]}),
        Block({"restart": f"on-failure:{MOST_RESTARTS}"}),
    ]


# What services are made of


def _locked(deployment: Deployment) -> list[Block]:
    return [
        Block(
            {"labels": {LABEL: deployment.name}, "annotations": {LABEL: "true"}},
            "The hook of kos-agent export oci-hook looks for the annotation.",
        ),
        Block(
            {
                "user": f"{AGENT_ID}:{AGENT_ID}",
                "read_only": True,
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true", f"seccomp=./{PROFILE}"],
            },
            "Never root, no rights and none to be had, only the system calls that agents need.",
        ),
    ]


def _bounds(
    memory_bytes: int | None, cpus: float | None, processes: int | None, files: int | None
) -> dict[str, object]:
    members: dict[str, object] = {}
    if memory_bytes is not None:
        members |= {"mem_limit": memory_bytes, "memswap_limit": memory_bytes}
    if cpus is not None:
        members["cpus"] = cpus
    if processes is not None:
        members["pids_limit"] = processes
    ulimits: dict[str, object] = {"core": {"soft": 0, "hard": 0}}
    if files is not None:
        ulimits["nofile"] = {"soft": files, "hard": files}
    return members | {"ulimits": ulimits}


def _gpus(count: int) -> dict[str, object]:
    if not count:
        return {}
    device = {"driver": "nvidia", "count": count, "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [device]}}}}


def _mounts(deployment: Deployment) -> dict[str, object]:
    # Docker takes no such options for a mount; those of the file system itself hold.
    options = "" if deployment.settings.engine == "docker" else f",{MOUNTED}"
    lines = [
        mount_text(volume.name, volume.target, f"rw{options}")
        for volume in deployment.volumes
        if volume.is_kept
    ]
    vault = vault_of(deployment, _SECRETS)
    if vault is not None:
        lines.append(mount_text(vault.source, vault.target, f"ro{options}"))
    return {"volumes": lines} if lines else {}


def _tmpfs(deployment: Deployment) -> list[str]:
    passing = [
        _in_memory(deployment, volume) for volume in deployment.volumes if not volume.is_kept
    ]
    return passing + _empty()


def _in_memory(deployment: Deployment, volume: Volume) -> str:
    # Podman hands it over to the container's user; Docker is told whose it is.
    is_docker = deployment.settings.engine == "docker"
    owner = f"uid={AGENT_ID},gid={AGENT_ID}" if is_docker else "U"
    return f"{volume.target}:rw,size={scratch_bytes(deployment)},mode=0700,{owner},{MOUNTED}"


def _empty() -> list[str]:
    return [f"{folder}:ro,size={EMPTY_BYTES},{MOUNTED}" for folder in EMPTY_FOLDERS]


def _alias(deployment: Deployment, role: str) -> dict[str, list[str]]:
    return {"aliases": [f"{deployment.name}{MESH_ENDING}"]} if role == "mesh" else {}


def _low_ports(deployment: Deployment) -> dict[str, object]:
    if min(deployment.port, *deployment.policy.network.listen, PRIVILEGED_PORTS) < PRIVILEGED_PORTS:
        return {"sysctls": {"net.ipv4.ip_unprivileged_port_start": 0}}
    return {}


def _life(stop_s: int) -> list[Block]:
    return [
        Block({"stop_grace_period": f"{stop_s}s"}),
        Block(
            {"restart": f"on-failure:{MOST_RESTARTS}"},
            "Not for ever: a wrong config.yaml (78) and a start that fails (3) do not mend themselves. "
            "After a reboot: podman-compose up -d again, or systemd (kos-agent export quadlet).",
        ),
    ]


def _networks(deployment: Deployment, networks: Networks) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for role in networks.all:
        named = {"name": deployment.settings.mesh} if role == "mesh" else {}
        found[role] = named | ({} if role == "outside" else {"internal": True})
    return found

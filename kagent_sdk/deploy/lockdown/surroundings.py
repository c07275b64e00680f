"""Compare what a container sees of its surroundings: files, networks, ports. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from kagent_sdk.deploy.deployment import AGENT_FOLDER, Deployment
from kagent_sdk.deploy.lockdown.facts import Joined, Lockdown, Mount, Network, Port, Role
from kagent_sdk.deploy.lockdown.loosening import Loosening
from kagent_sdk.deploy.lockdown.spelling import spelling
from kagent_sdk.sandbox.paths import is_within

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's own, where multiprocessing has its locks

OF_THE_MACHINE = (
    "/boot",
    "/dev",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run",
)
"""Whoever is given something of these has the machine, its secrets, or its engine."""

SHARED = ("/etc", "/var/lib")
"""The machine's too; below them an agent may have a folder of its own."""

WHOLE = frozenset({"/", "//", "/home", "/opt", "/srv", "/usr", "/var", *SHARED})
"""Too much for any agent."""

READ_ONLY_KINDS = frozenset({"configMap", "secret", "projected", "downwardAPI"})
"""Kubernetes mounts them read-only, whatever is said."""

LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def compare_surroundings(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    """Yield what a manifest opens to a container, or of it to others."""
    if found.role is not Role.OTHER:
        for mount in found.mounts:
            yield from _mount(wanted, found, mount)
        for port in found.ports:
            yield from _port(wanted, found, port)
    for joined in found.networks:
        yield from _network(wanted, found, joined)
    for one in found.exposes:
        yield Loosening("exposure", "the agent's own port alone", one.text, one.where, "remove it")


def _mount(wanted: Deployment, found: Lockdown, mount: Mount) -> Iterator[Loosening]:
    target = posixpath.normpath(mount.target)
    is_agent = found.role is Role.AGENT
    vault = wanted.vault or f"{AGENT_FOLDER}/secrets/vault.json"
    label = f"{mount.source} on {target}" if mount.source else f"{mount.kind} on {target}"
    is_vault = is_agent and _is_vault(target, vault)
    is_ours = is_agent and any(is_within(target, volume.target) for volume in wanted.volumes)
    if mount.kind == "bind" and _is_of_the_machine(mount.source, is_ours=is_ours or is_vault):
        yield Loosening("files", "nothing of the machine", label, mount.where, "remove it")
    elif is_vault:
        if mount.is_writable and mount.kind not in READ_ONLY_KINDS:
            yield Loosening("vault", "read-only", "writable", mount.where, "mount it read-only")
    elif is_ours:
        for word in mount.allows:
            fix = f"mount it no{word}"
            yield Loosening("files", f"no{word}", f"{label}: {word}", mount.where, fix, "warning")
    elif target != SHARED_MEMORY:
        yield from _other_mount(mount, label, target)


def _is_vault(target: str, vault: str) -> bool:
    """Tell whether a mount is the vault or its folder; the agent's own folder has more in it."""
    folder = posixpath.dirname(vault)
    return target == vault or (folder not in {AGENT_FOLDER, "/"} and is_within(target, folder))


def _other_mount(mount: Mount, label: str, target: str) -> Iterator[Loosening]:
    over = is_within(target, AGENT_FOLDER) or is_within(AGENT_FOLDER, target)
    if mount.is_writable and mount.kind not in READ_ONLY_KINDS:
        wanted, fix = "no other place to write", "remove it, or allow it in sandbox.write"
        is_critical = over or mount.kind not in {"tmpfs", "emptyDir"}
        severity = "critical" if is_critical else "warning"
        text = f"{label}, writable"
        yield Loosening("files", wanted, text, mount.where, fix, severity)  # type: ignore[arg-type]
    elif mount.kind in {"bind", "volume", "image"}:
        text = f"{label}, read-only"
        fix = "put it into the image"
        yield Loosening("files", "what the image has", text, mount.where, fix, "warning")


def _is_of_the_machine(source: str, *, is_ours: bool) -> bool:
    path = posixpath.normpath(source)
    folders = OF_THE_MACHINE if is_ours else (*OF_THE_MACHINE, *SHARED)
    return (
        path in WHOLE
        or path.endswith(".sock")
        or any(is_within(path, folder) for folder in folders)
    )


def _port(wanted: Deployment, found: Lockdown, port: Port) -> Iterator[Loosening]:
    shown = f"{port.address or 'every address'}:{port.port or port.target or 'any port'}"
    publish = wanted.settings.publish
    address, _, number = (publish or "").rpartition(":")
    address = address.strip("[]")
    if publish is None or found.role is not Role.AGENT:
        fix = "remove it, or say --set publish=ADDRESS:PORT"
        yield Loosening("ports", "none is shown", f"shows {shown}", port.where, fix, "warning")
    elif port.target != str(wanted.port):
        text = f"shows {port.target or 'all its ports'}"
        yield Loosening("ports", f"port {wanted.port}", text, port.where, "remove it", "warning")
    elif port.port != number or port.address not in LOCAL | {address or "127.0.0.1"}:
        fix = f"{address or '127.0.0.1'}:{number}:{wanted.port}"
        yield Loosening("ports", publish, f"shows {shown}", port.where, fix, "warning")


def _network(wanted: Deployment, found: Lockdown, joined: Joined) -> Iterator[Loosening]:
    kind, place = joined.network, joined.where
    # Whoever names a network by --set network=NAME answers for it.
    may_leave = wanted.policy.network.external or found.role is Role.EGRESS
    if kind is Network.HOST:
        fix = "remove it: the sandbox cannot hold there"
        yield Loosening("egress", "a network of its own", "the machine's", place, fix)
    elif may_leave:
        return
    elif kind is Network.ORDINARY:
        fix = spelling(found.kind, "network")
        yield Loosening("egress", "no route out", f"{joined.name} leads out", place, fix)
    elif kind is Network.UNSEEN and joined.name != wanted.settings.network:
        text = f"the file does not say whether {joined.name} leads out"
        fix = spelling(found.kind, "network")
        yield Loosening("egress", "no route out", text, place, fix, "warning")

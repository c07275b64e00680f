"""From a policy to what container engines and Kubernetes are told. Pure.

In a container the host and its workers have the same user, file system and limits: what is exported is
what both need together. The workers are confined once more inside, by the same policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kagent_sdk.sandbox.paths import is_within
from kagent_sdk.sandbox.policy import AGENT_ID, HOST_PROCESSES, Limits, Network, Policy

AGENT_FOLDER = "/agent"
"""Where the images have the agent."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the machine, inside the container.

    Attributes:
        source: on the machine; absolute.
        target: inside.
        is_writable: else it is mounted read-only.
    """

    source: str
    target: str
    is_writable: bool


def find_mounts(policy: Policy, directory: str, secrets: str | None) -> tuple[Mount, ...]:
    """Return what is mounted into the image of an agent, outermost first.

    The image has the code; the machine keeps what is to last, and the secrets.

    Args:
        policy: what the workers may do.
        directory: the agent's folder; absolute.
        secrets: the folder or file of the vault, inside the agent's; None without one.
    """
    mounts = [
        Mount(f"{directory}/{name}", f"{AGENT_FOLDER}/{name}", is_writable=True)
        for name in ("runtime", "logs")
    ]
    if secrets is not None:
        mounts.append(Mount(secrets, _inside(secrets, directory), is_writable=False))
    ours = tuple(mount.source for mount in mounts)
    mounts += [
        Mount(path, _inside(path, directory), is_writable=True)
        for path in policy.write
        if not any(is_within(path, each) for each in ("/dev", *ours))
    ]
    return tuple(sorted(mounts, key=lambda mount: mount.target))


def container_flags(
    policy: Policy,
    mounts: tuple[Mount, ...],
    *,
    engine: str = "podman",
    seccomp_file: str | None = None,
    network: str | None = None,
) -> list[str]:
    """Return the words between ``podman run`` and the image's name.

    Args:
        policy: what the workers may do.
        mounts: of `find_mounts`.
        engine: ``podman`` or ``docker``.
        seccomp_file: where the profile is (``kos-agent sandbox export --for seccomp``); None: the
            engine's own.
        network: a network of the engine, such as an internal one; None: none at all where the
            policy needs no way out, else the engine's default.
    """
    flags = ["--user", f"{AGENT_ID}:{AGENT_ID}", "--read-only"]
    if engine == "podman":
        flags.append("--read-only-tmpfs=false")
    flags += ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
    if seccomp_file is not None:
        flags.append(f"--security-opt=seccomp={seccomp_file}")
    flags += _limit_flags(policy.limits)
    if network is not None:
        flags.append(f"--network={network}")
    elif not needs_way_out(policy.network):
        flags.append("--network=none")
    for mount in mounts:
        options = "rw,noexec,nosuid,nodev" if mount.is_writable else "ro,noexec,nosuid,nodev"
        if engine == "docker":
            # Docker takes no such options for a bind mount; the file system's own hold.
            options = options.partition(",")[0]
        flags += ["--volume", f"{mount.source}:{mount.target}:{options}"]
    return flags


def needs_way_out(network: Network) -> bool:
    """Tell whether anything outside is to be reached, by the workers or by the proxy for them."""
    return network.external or bool(network.allow)


def kubernetes_fragment(policy: Policy, mounts: tuple[Mount, ...]) -> dict[str, Any]:
    """Return the parts of a Pod's ``spec`` that hold the policy, as JSON data.

    The volumes are empty ones, for a start: what is to last takes a claim instead. A seccomp
    profile of one's own has to be on the node, so the runtime's serves here; the number of processes
    is the kubelet's to limit (``podPidsLimit``).
    """
    volumes = [(f"volume-{number}", mount) for number, mount in enumerate(mounts)]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AGENT_ID,
            "runAsGroup": AGENT_ID,
            "fsGroup": AGENT_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "agent",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": _resources(policy.limits),
                "volumeMounts": [
                    {
                        "name": name,
                        "mountPath": mount.target,
                        **({} if mount.is_writable else {"readOnly": True}),
                    }
                    for name, mount in volumes
                ],
            }
        ],
        "volumes": [
            {"name": name, "emptyDir": {}}
            if mount.is_writable
            else {"name": name, "secret": {"secretName": "agent-vault", "defaultMode": 0o440}}
            for name, mount in volumes
        ],
    }


def _limit_flags(limits: Limits) -> list[str]:
    flags = []
    if limits.memory_bytes is not None:
        # As much with swap as without: there is none beside it.
        flags += [f"--memory={limits.memory_bytes}", f"--memory-swap={limits.memory_bytes}"]
    if limits.cpu_cores is not None:
        flags.append(f"--cpus={limits.cpu_cores:g}")
    if limits.processes is not None:
        flags.append(f"--pids-limit={limits.processes + HOST_PROCESSES}")
    flags.append("--ulimit=core=0:0")
    if limits.open_files is not None:
        flags.append(f"--ulimit=nofile={limits.open_files}:{limits.open_files}")
    return flags


def _resources(limits: Limits) -> dict[str, dict[str, str]]:
    amounts = {}
    if limits.cpu_cores is not None:
        amounts["cpu"] = f"{round(limits.cpu_cores * 1000)}m"
    if limits.memory_bytes is not None:
        amounts["memory"] = str(limits.memory_bytes)
    # As much requested as allowed: such a Pod is evicted last (the class Guaranteed).
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}


def _inside(path: str, directory: str) -> str:
    """Return where something of the machine is in the container: an agent's folder moves."""
    return AGENT_FOLDER + path[len(directory) :] if is_within(path, directory) else path

"""A bundle's config.json as engines write it for an agent that is locked down, and the machine below it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.hook.bundle import Machine
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.sandbox.seccomp.oci import oci_profile

MEBIBYTE = 1024 * 1024
SYSTEM_OPTIONS = ["nosuid", "noexec", "nodev"]


def deploy(config: dict[str, Any] | None = None, **settings: Any) -> Deployment:
    """Describe an agent of the folder `shop`."""
    return describe(
        AgentConfig.model_validate(config or {}), "shop", Settings.model_validate(settings)
    )


def good_bundle() -> dict[str, Any]:
    """Return config.json as podman 4 writes it for the flags of ``kos-agent export docker-run``."""
    return {
        "ociVersion": "1.0.2-dev",
        "process": {
            "user": {"uid": 1000, "gid": 1000, "umask": 18, "additionalGids": [1000]},
            "args": ["kos-agent", "run"],
            "env": ["PATH=/usr/bin", "HOME=/agent/runtime/cache", "LD_LIBRARY_PATH=/usr/local/lib"],
            "cwd": "/agent",
            "capabilities": {},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
            "noNewPrivileges": True,
        },
        "root": {"path": "/store/overlay/merged", "readonly": True},
        "mounts": [
            _mount("/proc", "proc", SYSTEM_OPTIONS),
            _mount("/sys", "sysfs", [*SYSTEM_OPTIONS, "ro"]),
            _mount("/dev", "tmpfs", ["nosuid", "noexec", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance"]),
            _mount("/dev/shm", "bind", ["bind", *SYSTEM_OPTIONS], "/store/shm"),  # noqa: S108
            _mount("/etc/hosts", "bind", ["bind", "ro", *SYSTEM_OPTIONS], "/run/engine/hosts"),
            _mount("/agent/runtime", "bind", ["rw", *SYSTEM_OPTIONS, "rbind"], "/srv/runtime"),
            _mount("/agent/logs", "bind", ["rw", *SYSTEM_OPTIONS, "rbind"], "/srv/logs"),
            _mount("/agent/secrets", "bind", ["ro", *SYSTEM_OPTIONS, "rbind"], "/srv/secrets"),
            _mount("/sys/fs/cgroup", "cgroup", [*SYSTEM_OPTIONS, "ro"]),
        ],
        "annotations": {"io.kos.agent": "true"},
        "linux": {
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {"limit": 512 * MEBIBYTE, "swap": 512 * MEBIBYTE},
                "cpu": {"quota": 100_000, "period": 100_000},
                "pids": {"limit": 160},
            },
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "seccomp": deepcopy(_profile()),
            "maskedPaths": [
                *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
                *("/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
            ],
            "readonlyPaths": [
                *("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
            ],
        },
    }


def machine(**differences: Any) -> Machine:
    """Return a machine with cgroups of version 2 and an engine of root, without links."""
    fields: dict[str, Any] = {
        "is_unified": True,
        "is_mapped": False,
        "shared": frozenset(),
        "resolve": lambda path: path,
        "kind_of": lambda path: {"/srv/engine": "socket", "/srv/disk": "device"}.get(path, "other"),
    }
    return Machine(**{**fields, **differences})


def change(bundle: dict[str, Any], path: str, value: Any) -> None:
    """Set what a dotted path names; numbers are places of a list, ``+`` adds to one."""
    *way, last = path.split(".")
    target: Any = bundle
    for name in way:
        target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
    if last == "+":
        target.append(value)
    elif isinstance(target, list):
        target[int(last)] = value
    elif value is ...:
        del target[last]
    else:
        target[last] = value


@cache
def _profile() -> dict[str, Any]:
    return oci_profile(deploy().policy, with_host=True)


def _mount(place: str, kind: str, options: list[str], source: str | None = None) -> dict[str, Any]:
    return {
        "destination": place,
        "type": kind,
        "source": source or kind,
        "options": list(options),
    }

"""kos-agent export nsjail: a configuration for nsjail, which runs an agent without an engine or images.

Field names and units are those of google/nsjail's config.proto, of version 3.1 and newer: memory in
bytes, file sizes in MiB, processor time in milliseconds a second.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kagent_sdk.deploy.deployment import AGENT_FOLDER
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.host.grounds import SYSTEM_FILES
from kagent_sdk.sandbox.paths import is_within
from kagent_sdk.sandbox.policy import AGENT_ID, MEBIBYTE

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment
    from kagent_sdk.sandbox.policy import Limits

PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""Of Linux distributions; other systems add theirs."""

SHM = "/dev/shm"  # noqa: S108 - a file system of the jail's own
SHM_BYTES = 64 * MEBIBYTE
"""As engines have it."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")

KERNEL_FILES = tuple(path for path in SYSTEM_FILES if path.startswith("/sys/"))

HARD = ("nosuid: true", "nodev: true", "noexec: true")


def render(deployment: Deployment) -> Rendering:
    """Return the configuration and how it is started."""
    name = f"{deployment.name}.cfg"
    text = "\n".join((*_head(deployment), *_limits(deployment.policy.limits), *_mounts(deployment)))
    folder = _folder(deployment)
    return Rendering(
        name,
        {name: text + "\n"},
        notes=(
            f"as root: nsjail --config {name}",
            f"{folder} has the agent; runtime/ and logs/ in it, and the vault, are of UID {AGENT_ID}",
            f"{deployment.settings.python} has the SDK, and bin/kos-agent",
        ),
    )


def _head(deployment: Deployment) -> list[str]:
    own_network = _has_own_network(deployment)
    return [
        f"# {deployment.name}, for nsjail 3.1 or newer; made by: kos-agent export nsjail",
        _text("name", deployment.name),
        "mode: ONCE",
        _text("hostname", deployment.name),
        _text("cwd", AGENT_FOLDER),
        "time_limit: 0  # it runs until it is stopped",
        "forward_signals: true  # a SIGTERM lets it finish its tasks, instead of a kill",
        "",
        "# Nobody of the machine: one user, without capabilities, who gains none by executing.",
        *_id_map("uidmap"),
        *_id_map("gidmap"),
        "keep_caps: false",
        "disable_no_new_privs: false",
        "# System calls: the agent's host puts its workers under their own filter, and Landlock.",
        "",
        "clone_newuser: true",
        "clone_newns: true",
        "clone_newpid: true",
        "clone_newipc: true",
        "clone_newuts: true",
        "clone_newcgroup: true",
        *_network(own=own_network),
        "",
        "keep_env: false",
        *(_text("envar", f"{key}={value}") for key, value in _environment(deployment)),
        "exec_bin {",
        f"  {_text('path', deployment.settings.python + '/bin/kos-agent')}",
        f"  {_text('arg', 'run')}",
        f"  {_text('arg', AGENT_FOLDER)}",
        "}",
        "",
    ]


def _network(*, own: bool) -> list[str]:
    if own:
        return [
            "# No way out, and none in: the control plane is reached from inside alone (nsenter).",
            "clone_newnet: true",
        ]
    return [
        "# The machine's network: nsjail has no proxy. Workers reach what config.yaml allows, by the",
        "# host's egress proxy; Landlock and their filter hold them to that.",
        "clone_newnet: false",
    ]


def _limits(limits: Limits) -> list[str]:
    lines = [
        "# Limits of each process. Not of the address space: Python maps more than it uses.",
        "rlimit_as_type: INF",
        "rlimit_core: 0",
        "rlimit_cpu_type: INF",
    ]
    if limits.file_bytes is None:
        lines.append("rlimit_fsize_type: INF")
    else:
        lines.append(f"rlimit_fsize: {max(1, limits.file_bytes // MEBIBYTE)}")
    lines.append(
        "rlimit_nofile_type: HARD"
        if limits.open_files is None
        else f"rlimit_nofile: {limits.open_files}"
    )
    lines += ["", "# Limits of all together, by cgroups of version 2 where the machine has them."]
    lines.append("detect_cgroupv2: true")
    if limits.memory_bytes is not None:
        lines.append(f"cgroup_mem_max: {limits.memory_bytes}")
        lines.append("cgroup_mem_swap_max: 0")
    if limits.all_processes is not None:
        lines.append(f"cgroup_pids_max: {limits.all_processes}")
    if limits.cpu_cores is not None:
        lines.append(f"cgroup_cpu_ms_per_sec: {round(limits.cpu_cores * 1000)}")
    return [*lines, ""]


def _mounts(deployment: Deployment) -> list[str]:
    """Return what is in the jail; what a machine may lack is not mandatory."""
    folder, python = _folder(deployment), deployment.settings.python
    lines = ["# The machine's programs and settings, as far as Python needs them; all read-only."]
    for path in (*PROGRAMS, *(path for path in SYSTEM_FILES if path.startswith("/etc/"))):
        lines += _bind(path, path, "nosuid: true", "mandatory: false")
    if not any(is_within(python, path) for path in PROGRAMS):
        lines += _bind(python, python, "nosuid: true")
    lines += ["", "# The kernel's files. /dev has the harmless devices alone."]
    lines += _mount(dst="/proc", fstype="proc", more=HARD)
    for path in KERNEL_FILES:
        lines += _bind(path, path, *HARD, "mandatory: false")
    devices = DEVICES + (_gpu_devices(deployment.gpus) if deployment.gpus else ())
    for path in devices:
        optional = () if path in DEVICES else ("mandatory: false",)
        lines += _bind(path, path, "rw: true", "nosuid: true", "noexec: true", *optional)
    lines += _mount(
        dst=SHM, fstype="tmpfs", more=(_text("options", f"size={SHM_BYTES}"), "rw: true", *HARD)
    )
    lines += ["", "# The agent: its code read-only; what it writes is never executed."]
    lines += _bind(folder, AGENT_FOLDER, "nosuid: true", "nodev: true")
    for volume in deployment.volumes:
        lines += _bind(_outside(volume.target, folder), volume.target, "rw: true", *HARD)
    return lines


def _has_own_network(deployment: Deployment) -> bool:
    network = deployment.policy.network
    is_reached = deployment.settings.publish is not None
    return not (network.external or network.allow or is_reached)


def _environment(deployment: Deployment) -> list[tuple[str, str]]:
    cache = f"{AGENT_FOLDER}/runtime/cache"
    pairs = [
        ("PATH", f"{deployment.settings.python}/bin:/usr/local/bin:/usr/bin:/bin"),
        ("HOME", cache),
        ("TMPDIR", cache),
        ("LANG", "C.UTF-8"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        *deployment.environment,
    ]
    if deployment.settings.publish is not None:
        address, _, port = deployment.settings.publish.rpartition(":")
        pairs += [
            ("AGENT_HTTP__HOST", address.strip("[]") or "127.0.0.1"),
            ("AGENT_HTTP__PORT", port),
        ]
    return pairs


def _gpu_devices(gpus: int) -> tuple[str, ...]:
    return (*(f"/dev/nvidia{number}" for number in range(gpus)), *GPU_DEVICES)


def _folder(deployment: Deployment) -> str:
    return deployment.settings.folder or f"/srv/{deployment.name}"


def _outside(target: str, folder: str) -> str:
    """Return where something of the jail is on the machine: the agent's folder is elsewhere."""
    return folder + target[len(AGENT_FOLDER) :] if is_within(target, AGENT_FOLDER) else target


def _id_map(kind: str) -> list[str]:
    inside = _text("inside_id", str(AGENT_ID))
    return [f"{kind} {{ {inside} {_text('outside_id', str(AGENT_ID))} count: 1 }}"]


def _bind(source: str, place: str, *more: str) -> list[str]:
    return [_mounted(_text("src", source), _text("dst", place), "is_bind: true", *more)]


def _mount(*, dst: str, fstype: str, more: tuple[str, ...]) -> list[str]:
    return [_mounted(_text("dst", dst), _text("fstype", fstype), *more)]


def _mounted(*fields: str) -> str:
    return f"mount {{ {' '.join(fields)} }}"


def _text(key: str, value: str) -> str:
    # Its escapes are C's, of which JSON's are a part, as long as the text is plain.
    assert value.isascii()
    assert value.isprintable()
    return f"{key}: {json.dumps(value)}"

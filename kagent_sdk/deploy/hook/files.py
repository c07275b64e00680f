"""Judge what a bundle says of files: mounts, devices, the kernel's own. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any, Optional

from kagent_sdk.deploy.hook.bundle import (
    Case,
    Loose,
    Malformed,
    is_within,
    list_of,
    number_of,
    show,
    some,
)

# What engines give every container: null, zero, full, random, urandom; tty, console, ptmx; pts.
DEVICES = frozenset(
    f"/dev/{name}"
    for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
)
DEVICE_NUMBERS = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
Number = tuple[Optional[int], Optional[int]]  # noqa: UP045 - read when this runs, by Python 3.9
PTS_MAJOR = 136
NVIDIA_MAJOR = 195
GPU_DEVICES = ("/dev/nvidia", "/dev/dri/")

MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

SHM = "/dev/shm"  # noqa: S108 - locks of multiprocessing, a file system of the container's own
LOG = "/dev/termination-log"
"""Where Kubernetes lets a container say how it ended."""

GPU_SOCKETS = ("/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket")

# The engine's own mounts: where each type may stand.
SYSTEM_MOUNTS = {
    "proc": ("/proc",),
    "sysfs": ("/sys",),
    "devpts": ("/dev/pts",),
    "mqueue": ("/dev/mqueue",),
    "cgroup": ("/sys/fs/cgroup",),
    "cgroup2": ("/sys/fs/cgroup",),
    "tmpfs": ("/dev", SHM, "/proc/acpi", "/proc/scsi", "/sys/firmware"),
}
# Nobody mounts these of the machine, nor what they stand in; of the trees nothing inside either.
HOST_FOLDERS = (
    "/etc",
    "/home",
    "/root",
    "/run",
    "/usr/bin",
    "/var/lib/containers/storage",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run",
)
HOST_TREES = ("/boot", "/dev", "/proc", "/sys")


def _devices(case: Case) -> Iterator[Loose]:
    linux = case.linux
    numbers: set[Number] = set(DEVICE_NUMBERS)
    for device in list_of(linux, "devices", dict):
        path = posixpath.normpath(str(device.get("path")))
        number = number_of(device, "major"), number_of(device, "minor")
        is_character = device.get("type") in ("c", "u")
        if path in DEVICES and number in DEVICE_NUMBERS and is_character:
            continue
        if case.wanted["gpus"] and path.startswith(GPU_DEVICES) and is_character:
            numbers.add(number)
        else:
            yield "devices", f"the device {show(path)}", "no device of the machine"
    rules = list_of(case.resources, "devices", dict)
    if not any(rule.get("allow") is False and _is_of_all(rule) for rule in rules):
        yield "devices", "a cgroup that does not deny devices", "one that denies all others"
    for rule in rules:
        if rule.get("allow") is not False and not _is_free(rule, numbers, case.wanted["gpus"]):
            shown = " ".join(
                "*" if rule.get(key) is None else str(rule.get(key))
                for key in ("type", "major", "minor", "access")
            )
            yield "devices", f"the cgroup allows {show(shown)}", "the usual ones"


def _is_of_all(rule: dict[str, Any]) -> bool:
    """Tell whether a rule is about every device: what is left out, or -1, stands for all."""
    return (
        rule.get("type") in (None, "", "a")
        and number_of(rule, "major") in (None, -1)
        and number_of(rule, "minor") in (None, -1)
        and set("rwm") <= set(str(rule.get("access") or "rwm"))
    )


def _is_free(rule: dict[str, Any], numbers: set[Number], gpus: int) -> bool:
    number = major, _ = number_of(rule, "major"), number_of(rule, "minor")
    if rule.get("access") == "m":
        return True  # to make a node, for which nobody has the capability
    if rule.get("type") != "c":
        return False
    return number in numbers or major == PTS_MAJOR or (gpus > 0 and major == NVIDIA_MAJOR)


def _mounts(case: Case) -> Iterator[Loose]:
    mounts = list_of(case.config, "mounts", dict)
    places = [_place(mount) for mount in mounts]
    if "/proc" not in places or "/dev" not in places:
        raise Malformed("there is no mount of /proc and /dev")
    for mount, place in zip(mounts, places):  # noqa: B905 - strict is of Python 3.10
        flags = _flags(mount)
        kind = "bind" if flags["bind"] else mount.get("type")
        if flags["shared"]:
            yield "mounts", f"{show(place)} is shared with the machine", "private mounts"
        if kind == "bind":
            yield from _bind(_source(mount), place, case)
        elif not isinstance(kind, str) or place not in (*SYSTEM_MOUNTS.get(kind, ()),) + (
            tuple(case.wanted["volumes"]) if kind == "tmpfs" else ()
        ):
            yield "mounts", f"{show(kind)} at {show(place)}", "the engine's own and volumes"
            continue
        yield from _options(kind, place, flags, case.wanted)


def _options(
    kind: str, place: str, flags: dict[str, bool], wanted: dict[str, Any]
) -> Iterator[Loose]:
    """Judge how something is mounted: who may write it, and what a written file may become."""
    is_volume = any(is_within(place, volume) for volume in wanted["volumes"])
    is_writable = not flags["ro"]
    if kind in ("sysfs", "cgroup", "cgroup2") and is_writable:
        yield "mounts", f"a writable {place}", "a read-only one"
    if kind == "bind" and is_writable and not is_volume and place not in wanted["writable_files"]:
        yield "mounts", f"{show(place)} is writable", f"{some(wanted['volumes'])} alone"
    # Nobody but root writes the engine's own, such as /dev.
    needed = wanted["mount_options"] if is_volume or kind == "bind" else ["nosuid"]
    if is_writable and place not in wanted["writable_files"]:
        missing = [name for name in needed if not flags[name]]
        if missing:
            yield "mounts", f"{show(place)} without {','.join(missing)}", f"{','.join(needed)}"


def _bind(source: str, place: str, case: Case) -> Iterator[Loose]:
    """Judge what of the machine is in the container."""
    inside_kernel = any(is_within(place, tree) for tree in ("/proc", "/sys"))
    if inside_kernel or (is_within(place, "/dev") and place not in (SHM, LOG)):
        yield "mounts", f"something of the machine at {show(place)}", "the kernel's own files"
    real = case.machine.resolve(source)
    kind = case.machine.kind_of(real)
    if case.wanted["gpus"] and source in GPU_SOCKETS:
        return
    if kind == "socket" or posixpath.basename(real).endswith(".sock"):
        yield "mounts", f"the socket {show(source)}", "no socket of the machine"
    elif kind == "device":
        yield "mounts", f"the device {show(source)}", "no device of the machine"
    elif any(is_within(folder, real) for folder in (*HOST_FOLDERS, *HOST_TREES)) or any(
        is_within(real, tree) for tree in HOST_TREES
    ):
        yield "mounts", f"{show(source)} of the machine", "a folder of the agent"


def _place(mount: dict[str, Any]) -> str:
    place = mount.get("destination")
    if not isinstance(place, str) or not place or "\0" in place:
        raise Malformed("a mount has no destination")
    # Engines take a relative one as one below the root, and resolve ".." there.
    return posixpath.normpath("/" + place.lstrip("/"))


def _source(mount: dict[str, Any]) -> str:
    source = mount.get("source")
    if not isinstance(source, str) or not source or "\0" in source:
        raise Malformed("a bind mount has no source")
    return source


def _flags(mount: dict[str, Any]) -> dict[str, bool]:
    """Return what the options come to: of two that contradict, the later one counts."""
    flags = dict.fromkeys(("ro", "nosuid", "nodev", "noexec", "bind", "shared"), False)
    flags["bind"] = mount.get("type") in ("bind", "rbind")
    opposites = {"rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec"}
    for option in list_of(mount, "options", str):
        if option in ("bind", "rbind"):
            flags["bind"] = True
        elif option in ("shared", "rshared"):
            flags["shared"] = True
        elif option in opposites:
            flags[opposites[option]] = False
        elif option in flags:
            flags[option] = True
        elif option == "defaults":
            flags.update(dict.fromkeys(opposites.values(), False))
    return flags


def _kernel_files(case: Case) -> Iterator[Loose]:
    linux = case.linux
    for key, control, wanted in (
        ("maskedpaths", "masked_paths", MASKED),
        ("readonlypaths", "readonly_paths", READ_ONLY),
    ):
        found = set(list_of(linux, key, str))
        if key == "readonlypaths":
            found |= set(list_of(linux, "maskedpaths", str))
        missing = [path for path in wanted if path not in found]
        if missing:
            yield control, f"{some(missing)} left open", "the engine's usual list"


FILE_CHECKS: tuple[Callable[[Case], Iterator[Loose]], ...] = (
    _devices,
    _mounts,
    _kernel_files,
)

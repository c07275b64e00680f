"""What every Python program needs of a machine: found out once, before there is a policy."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from kagent_sdk.sandbox.paths import is_within

PROGRAMS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
)
"""Where systems keep programs and what these load; nothing in them is of one person or machine."""

SYSTEM_FILES = (
    # How names of hosts and users are looked up (nsswitch.conf(5), resolv.conf(5)).
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    # What the dynamic loader reads (ld.so(8)).
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    # Time, language, names of file types.
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/timezone",
    # Whom TLS trusts; private keys lie beside that, and are left out.
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    # Which system this is, and what matplotlib and others draw with.
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/os-release",
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/proc",
    # How many processors, how large pages, how much memory: numpy, psutil and runtimes ask.
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/hugepages",
    "/sys/kernel/mm/transparent_hugepage",
)

WRITABLE_FILES = ("/dev/null", "/dev/shm")  # noqa: S108 - shm: locks of multiprocessing
"""What every program may write besides its own."""

GPU_READ = (
    # Which drivers there are, and where the GPUs sit: CUDA, OpenCL and Vulkan look here.
    "/etc/OpenCL/vendors",
    "/etc/glvnd",
    "/etc/nvidia",
    "/etc/vulkan",
    "/sys/bus/pci/devices",
    "/sys/class/drm",
    "/sys/class/nvidia",
    "/sys/module/nvidia",
    "/sys/module/nvidia_uvm",
)

GPU_DEVICE = re.compile(r"nvidia([0-9]{1,3}|ctl|-uvm|-uvm-tools|-modeset)")
"""In /dev: the cards, and what all of them need. Others (fabric, NVLink) are the administrator's."""

GPU_FOLDERS = {
    "/dev/nvidia-caps": re.compile(r"nvidia-cap[0-9]{1,5}"),
    "/dev/dri": re.compile(r"renderD[0-9]{1,3}"),
}
"""Parts of GPUs (MIG), and GPUs without the screen."""

PCI = re.compile(r"pci[0-9a-f]{4}:[0-9a-f]{2}")

MAX_LINKS = 40
"""On the way to one file; the kernel's own bound (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What this machine and interpreter need for any Python program; absolute, without links.

    Attributes:
        read, write, execute: as in a policy.
        code: folders of what the interpreter imports; also in ``execute``.
    """

    read: tuple[str, ...]
    write: tuple[str, ...]
    execute: tuple[str, ...]
    code: tuple[str, ...]


def find_grounds(search_path: Iterable[str]) -> Grounds:
    """Look at this interpreter and this machine; what is not there is left out.

    Args:
        search_path: what a worker imports from, besides the interpreter's own folders.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    loaded_from = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    interpreter = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    code = resolve((*interpreter, package, os.path.dirname(sys.executable), *search_path))
    return Grounds(
        read=resolve(SYSTEM_FILES),
        write=resolve(WRITABLE_FILES),
        execute=outermost((*resolve((*PROGRAMS, *filter(None, loaded_from))), *code)),
        code=outermost(code),
    )


def find_gpu_devices(root: str = "/dev") -> tuple[str, ...]:
    """Return the devices of GPUs, as far as this machine or container has them; absolute.

    Args:
        root: where devices are.
    """
    folders = {root: GPU_DEVICE} | {
        root + folder.removeprefix("/dev"): pattern for folder, pattern in GPU_FOLDERS.items()
    }
    return tuple(
        f"{folder}/{name}"
        for folder, pattern in folders.items()
        for name in _names(folder)
        if pattern.fullmatch(name) and _is_device(f"{folder}/{name}")
    )


def find_gpu_files() -> tuple[str, ...]:
    """Return what CUDA and its like read of a machine, beside what every program does."""
    buses = (f"/sys/devices/{name}" for name in _names("/sys/devices") if PCI.fullmatch(name))
    return resolve((*GPU_READ, *buses))


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.lstat(path).st_mode)
    except OSError:
        return False


def worker_search_path() -> list[str]:
    """Return what this process imports from, without what it owes to how it was started alone.

    ``python -m`` puts the present folder first, and ``python FILE`` the file's: a worker gets the
    agent's folder there.
    """
    return [entry for entry in sys.path[0 if sys.flags.safe_path else 1 :] if entry]


def resolve(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the paths that exist, absolute and without links, each once."""
    found: dict[str, None] = {}
    for path in paths:
        real = os.path.realpath(path)
        if os.path.exists(real):
            found[real] = None
    return tuple(found)


def resolve_safely(paths: Iterable[str], writable: Iterable[str]) -> tuple[str, ...]:
    """Do as `resolve`, but leave out what leads through something that a worker may write.

    What lies there is granted with it, and a link there may be the worker's own: followed, it would
    give the worker of the next start whatever it points to.

    Args:
        paths: absolute.
        writable: absolute, without links.
    """
    writable = tuple(writable)
    found: dict[str, None] = {}
    for path in paths:
        real = _follow(path, writable)
        if real is not None and os.path.exists(real):
            found[real] = None
    return tuple(found)


def _follow(path: str, writable: tuple[str, ...]) -> str | None:
    """Resolve a path name by name; None when it leads through something writable, or in a circle."""
    left = path.split("/")[::-1]
    real = ""
    links = 0
    while left:
        name = left.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            real = real.rpartition("/")[0]
            continue
        if any(is_within(real, folder) for folder in writable):
            return None
        real = f"{real}/{name}"
        try:
            target = os.readlink(real)
        except OSError:
            continue  # no link, or nothing at all
        links += 1
        if links > MAX_LINKS:
            return None
        real = "" if target.startswith("/") else real.rpartition("/")[0]
        left += target.split("/")[::-1]
    return real or "/"


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that are in no other of them, each once, in their order."""
    kept: list[str] = []
    for path in paths:
        if not any(is_within(path, other) for other in kept):
            kept = [other for other in kept if not is_within(other, path)]
            kept.append(path)
    return tuple(kept)

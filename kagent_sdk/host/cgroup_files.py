"""What stands in the kernel's files on control groups and pressure: from text to values. Pure.

The formats are those of ``admin-guide/cgroup-v2.rst``, ``admin-guide/cgroup-v1/`` and
``accounting/psi.rst`` in the kernel's documentation. Every function takes None for a file that could
not be read, and returns None, or nothing, for what is malformed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNIFIED = ""
"""Name of the v2 hierarchy among the controllers of ``/proc/PID/cgroup`` (line ``0::/path``)."""

# v1 writes "no limit" as the largest multiple of the page size in a signed 64-bit number.
_UNLIMITED_BYTES = 1 << 62
_PRESSURE_NUMBER = re.compile(r"(avg10|avg60|avg300|total)=(\d+(?:\.\d+)?)")
# id, parent, device, root, mount point, options and optional fields, "-", type, source, options.
_MOUNT = re.compile(
    r"\d+ \d+ \S+ (?P<root>\S+) (?P<point>\S+) .*?"
    r"- (?P<kind>cgroup2?) \S+ (?P<options>\S+)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """A mounted hierarchy.

    Attributes:
        point: where it is mounted.
        root: which directory of the hierarchy is seen there.
        controllers: of v1 its controllers; of v2 only `UNIFIED`.
    """

    point: str
    root: str
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One line of a pressure file: percent of the time, and seconds in total."""

    avg10: float | None = None
    avg60: float | None = None
    avg300: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Time in which some, or all, of the processes waited for a resource."""

    some: Waiting = Waiting()
    full: Waiting = Waiting()


def parse_membership(text: str) -> dict[str, str]:
    """Read ``/proc/PID/cgroup``: the path of the process by controller, `UNIFIED` for v2."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator and number.isdigit():
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def parse_mounts(text: str) -> list[CgroupMount]:
    """Read the control groups out of ``/proc/PID/mountinfo`` (proc_pid_mountinfo(5))."""
    mounts: list[CgroupMount] = []
    for line in text.splitlines():
        if match := _MOUNT.match(line):
            is_unified = match["kind"] == "cgroup2"
            controllers = [UNIFIED] if is_unified else match["options"].split(",")
            root, point = _unescape(match["root"]), _unescape(match["point"])
            mounts.append(CgroupMount(point, root, frozenset(controllers)))
    return mounts


def find_relative_path(mount_root: str, path: str) -> str:
    """Return where below a mount the cgroup ``path`` lies; empty for the mount point itself.

    In a container the two often have nothing to do with each other: the path is the host's, and
    the mount shows only the container's own cgroup, or the other way round.
    """
    parts = [part for part in path.split("/") if part]
    roots = [part for part in mount_root.split("/") if part]
    if ".." in parts or parts[: len(roots)] != roots:
        return ""
    return "/".join(parts[len(roots) :])


def parse_number(text: str | None) -> int | None:
    """Read a file that holds one whole number; None for ``max`` and all else."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def parse_limit(text: str | None) -> int | None:
    """Read a limit: None for ``max``, and for the number with which v1 says the same."""
    number = parse_number(text)
    return None if number is None or not 0 <= number < _UNLIMITED_BYTES else number


def parse_table(text: str | None) -> dict[str, int]:
    """Read a file of lines ``name number``, such as ``memory.stat``; other lines are skipped."""
    table: dict[str, int] = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        number = parse_number(value)
        if number is not None:
            table[name] = number
    return table


def parse_cores(quota: str | None, period: str | None) -> float | None:
    """Turn a quota and a period of the same unit into cores; None without a quota."""
    quota_us, period_us = parse_number(quota), parse_number(period)
    if quota_us is None or quota_us <= 0 or not period_us or period_us < 0:
        return None
    return quota_us / period_us


def parse_pressure(text: str | None) -> Pressure | None:
    """Read a pressure file; None if there is nothing in it."""
    lines: dict[str, Waiting] = {}
    for line in (text or "").splitlines():
        kind, _, rest = line.partition(" ")
        numbers = {name: float(value) for name, value in _PRESSURE_NUMBER.findall(rest)}
        total_us = numbers.pop("total", None)
        total_s = None if total_us is None else total_us / 1e6
        lines[kind] = Waiting(**numbers, total_s=total_s)
    some, full = lines.get("some"), lines.get("full")
    return Pressure(some or Waiting(), full or Waiting()) if some or full else None


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)

"""What the kernel's control groups say of this process: limits, usage, kills, waiting.

Reads cgroup v1, v2 and the hybrid of both, inside and outside of containers. `CgroupReader` blocks:
call it in a thread. What is missing or unreadable is None; so is a limit that is not set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kagent_sdk.host.cgroup_files import (
    UNIFIED,
    CgroupMount,
    Pressure,
    find_relative_path,
    parse_cores,
    parse_limit,
    parse_membership,
    parse_mounts,
    parse_number,
    parse_pressure,
    parse_table,
)
from kagent_sdk.host.oom import OomCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The longest of the files read here, /proc/self/mountinfo, has a line for each mount.
_MAX_FILE_BYTES = 1 << 20
_PRESSURES = ("memory", "cpu", "io")
_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", UNIFIED)


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """A cgroup with a memory limit: ours, or one around it.

    Attributes:
        used_bytes: its working set: usage without the file cache that the kernel would drop first
            (kubelet's ``working_set_bytes``).
        limit_bytes: its limit.
    """

    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """Memory of our cgroup.

    Attributes:
        limit_bytes: the smallest limit, ours or one around us.
        usage_bytes: page cache included.
        used_bytes: the working set; see `MemoryLevel`.
        oom_kills: processes of the cgroup that the kernel killed for memory.
        levels: every cgroup whose limit and usage are known, from ours outwards.
    """

    limit_bytes: int | None = None
    usage_bytes: int | None = None
    used_bytes: int | None = None
    oom_kills: int | None = None
    levels: tuple[MemoryLevel, ...] = ()


@dataclass(frozen=True, slots=True)
class CgroupCpu:
    """Processor time of our cgroup.

    Attributes:
        limit_cores: the smallest quota, ours or one around us.
        usage_s: time used.
        throttled_periods: how often the cgroup with that quota had to wait for its next period.
        throttled_s: for how long.
    """

    limit_cores: float | None = None
    usage_s: float | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None


@dataclass(frozen=True, slots=True)
class CgroupPids:
    """Processes and threads in our cgroup, and the smallest limit on them."""

    current: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class CgroupPressure:
    """Waiting for each resource; ``scope`` says whether of our cgroup or of the machine."""

    scope: Literal["cgroup", "system"] | None = None
    memory: Pressure | None = None
    cpu: Pressure | None = None
    io: Pressure | None = None


@dataclass(frozen=True, slots=True)
class CgroupSample:
    """All of it; ``version`` is None without control groups."""

    version: Literal["v1", "v2", "hybrid"] | None = None
    memory: CgroupMemory = CgroupMemory()
    cpu: CgroupCpu = CgroupCpu()
    pids: CgroupPids = CgroupPids()
    pressure: CgroupPressure = CgroupPressure()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a controller lie.

    Attributes:
        leaf: directory of our cgroup.
        top: where the hierarchy is mounted: ``leaf`` or a directory above it.
        is_unified: whether the files are those of v2.
    """

    leaf: Path
    top: Path
    is_unified: bool

    def levels(self) -> list[Path]:
        """Return our cgroup's directory and those around it, outwards."""
        depth = len(self.leaf.relative_to(self.top).parts)
        return [self.leaf, *list(self.leaf.parents)[:depth]]


class CgroupReader:
    """Read the control groups of a process. Every read blocks, for well under a millisecond.

    Args:
        root: stands for ``/``.
        process: a process id, or ``self``.
    """

    def __init__(self, root: Path = Path("/"), process: int | str = "self") -> None:
        self._root = root
        self._process = str(process)
        self._places: dict[str, Place] | None = None

    def read(self) -> CgroupSample:
        """Return what the files say now; the places of the files are found once."""
        places = self._places
        if places is None or not all(place.leaf.is_dir() for place in places.values()):
            # The first read, or the process was moved and its old cgroup removed.
            places = self._places = self._find_places()
        return CgroupSample(
            version=find_version(places.values()),
            memory=_read_memory(places.get("memory")),
            cpu=_read_cpu(places.get("cpu"), places.get("cpuacct")),
            pids=_read_pids(places.get("pids")),
            pressure=_read_pressure(places.get(UNIFIED), self._root / "proc/pressure"),
        )

    def find_memory(self) -> Place | None:
        """Return where the files of the process's memory cgroup lie at present."""
        return self._find_places(("memory",)).get("memory")

    def _find_places(self, controllers: Iterable[str] = _CONTROLLERS) -> dict[str, Place]:
        folder = self._root / "proc" / self._process
        paths = parse_membership(_read(folder / "cgroup") or "")
        mounts = parse_mounts(_read(folder / "mountinfo") or "")
        places: dict[str, Place] = {}
        for controller in controllers:
            place = self._find_place(controller, paths, mounts)
            place = place or self._find_place(UNIFIED, paths, mounts)
            if place:
                places[controller] = place
        return places

    def _find_place(
        self, controller: str, paths: Mapping[str, str], mounts: Iterable[CgroupMount]
    ) -> Place | None:
        path = paths.get(controller)
        if path is None:
            return None
        for mount in mounts:
            if controller in mount.controllers:
                top = self._root / mount.point.lstrip("/")
                leaf = top / find_relative_path(mount.root, path)
                # The path may be the host's while the mount shows the container's cgroup alone.
                leaf = leaf if leaf.is_dir() else top
                if leaf.is_dir():
                    return Place(leaf, top, is_unified=controller == UNIFIED)
        return None


def find_version(places: Iterable[Place]) -> Literal["v1", "v2", "hybrid"] | None:
    """Say which hierarchies are in use; None without any."""
    kinds = {place.is_unified for place in places}
    if len(kinds) > 1:
        return "hybrid"
    return None if not kinds else "v2" if kinds.pop() else "v1"


@dataclass(frozen=True, slots=True)
class _MemoryFiles:
    limit: str
    usage: str
    events: str
    inactive: str


_MEMORY_FILES = {
    True: _MemoryFiles("memory.max", "memory.current", "memory.events", "inactive_file"),
    False: _MemoryFiles(
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.oom_control",
        "total_inactive_file",
    ),
}


def read_oom_count(place: Place) -> OomCount | None:
    """Return what a memory cgroup counts now; None when it is gone or does not count.

    In v1 it counts its own processes alone, in v2 those of the cgroups in it too.
    """
    kills = parse_table(_read(place.leaf / _MEMORY_FILES[place.is_unified].events)).get("oom_kill")
    try:
        # The kernel gives no two cgroups of a hierarchy the same number while it runs.
        number = place.leaf.stat().st_ino
    except OSError:
        return None
    version = "v2" if place.is_unified else "v1"
    return None if kills is None else OomCount(f"{version}:{number}", kills)


def _read_memory(place: Place | None) -> CgroupMemory:
    if place is None:
        return CgroupMemory()
    files = _MEMORY_FILES[place.is_unified]
    found = [_read_memory_level(level, files) for level in place.levels()]
    _, usage_bytes, used_bytes = found[0]
    return CgroupMemory(
        limit_bytes=min((limit for limit, _, _ in found if limit is not None), default=None),
        usage_bytes=usage_bytes,
        used_bytes=used_bytes,
        oom_kills=parse_table(_read(place.leaf / files.events)).get("oom_kill"),
        levels=tuple(
            MemoryLevel(used, limit)
            for limit, _, used in found
            if limit is not None and used is not None
        ),
    )


def _read_memory_level(
    level: Path, files: _MemoryFiles
) -> tuple[int | None, int | None, int | None]:
    """Return limit, usage and working set."""
    stat = parse_table(_read(level / "memory.stat"))
    # v1 knows the limits of cgroups around a container that cannot be seen from inside it.
    limits = (
        parse_limit(_read(level / files.limit)),
        parse_limit(str(stat.get("hierarchical_memory_limit"))),
    )
    limit_bytes = min((limit for limit in limits if limit is not None), default=None)
    usage_bytes = parse_number(_read(level / files.usage))
    if usage_bytes is None:
        return limit_bytes, None, None
    return limit_bytes, usage_bytes, max(0, usage_bytes - stat.get(files.inactive, 0))


def _read_cpu(place: Place | None, accounting: Place | None) -> CgroupCpu:
    if place is None:
        return CgroupCpu(usage_s=_read_usage_s(accounting))
    quotas = [
        (cores, level)
        for level in place.levels()
        if (cores := _read_cores(level, place)) is not None
    ]
    limit_cores, tightest = min(quotas, default=(None, place.leaf))
    stat = parse_table(_read(tightest / "cpu.stat"))
    throttled, per_s = stat.get("throttled_time"), 1e9
    if place.is_unified:
        throttled, per_s = stat.get("throttled_usec"), 1e6
    return CgroupCpu(
        limit_cores=limit_cores,
        usage_s=_read_usage_s(accounting),
        throttled_periods=stat.get("nr_throttled"),
        throttled_s=None if throttled is None else throttled / per_s,
    )


def _read_cores(level: Path, place: Place) -> float | None:
    if place.is_unified:
        quota, _, period = (_read(level / "cpu.max") or "").partition(" ")
        return parse_cores(quota, period)
    return parse_cores(_read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us"))


def _read_usage_s(place: Place | None) -> float | None:
    if place is None:
        return None
    if place.is_unified:
        usage, per_s = parse_table(_read(place.leaf / "cpu.stat")).get("usage_usec"), 1e6
    else:
        usage, per_s = parse_number(_read(place.leaf / "cpuacct.usage")), 1e9
    return None if usage is None else usage / per_s


def _read_pids(place: Place | None) -> CgroupPids:
    if place is None:
        return CgroupPids()
    limits = (parse_limit(_read(level / "pids.max")) for level in place.levels())
    return CgroupPids(
        current=parse_number(_read(place.leaf / "pids.current")),
        limit=min((limit for limit in limits if limit is not None), default=None),
    )


def _read_pressure(place: Place | None, system: Path) -> CgroupPressure:
    # The root of the hierarchy has no cgroup.events; its pressure is the machine's.
    if place and (place.leaf / "cgroup.events").exists():
        found = [parse_pressure(_read(place.leaf / f"{name}.pressure")) for name in _PRESSURES]
        if any(found):
            return CgroupPressure("cgroup", *found)
    found = [parse_pressure(_read(system / name)) for name in _PRESSURES]
    return CgroupPressure("system", *found) if any(found) else CgroupPressure()


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode(errors="replace")
    except OSError:
        # Missing on this kernel, not ours to read, or switched off (PSI answers EOPNOTSUPP).
        return None

"""A control group for confined processes, made by writing to the kernel's files, v1 or v2.

One folder holds all workers of a host: their memory, cores and processes are counted together, as no
limit of a single process can. It needs write access to the file system of the control groups, which
root has outside of containers. Takes about half a millisecond.

See ``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1/`` in the kernel's documentation.
"""

from __future__ import annotations

import os

from kagent_sdk.sandbox.policy import Limits

PERIOD_US = 100_000
"""In which the quota of a cgroup's processor time is counted; the kernel's own default."""

PREFIX = "kagent-"

CONTROLLERS = ("memory", "cpu", "pids")


class CgroupError(Exception):
    """A control group cannot be made here; the message says why, and holds no path."""


class WorkerCgroup:
    """The control group of all workers of one host.

    Args:
        folders: one for each hierarchy.
        held: the limits that it holds: ``memory``, ``cpu``, ``pids``.
    """

    def __init__(self, folders: tuple[str, ...], held: tuple[str, ...]) -> None:
        self.held = held
        self.folders = folders
        # Opened while there are the rights to: a host that was root is not any more when the next
        # worker comes, and the kernel looks at who has opened the file.
        self._doors = [
            os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in folders
        ]

    def take(self, pid: int) -> None:
        """Put a process into it, and so all that it will start.

        Raises:
            OSError: the process is gone, or the rights are.
        """
        for door in self._doors:
            os.write(door, str(pid).encode())

    def close(self) -> None:
        """Remove it, as far as no process is left in it and the rights allow."""
        for door in self._doors:
            os.close(door)
        self._doors.clear()
        for folder in self.folders:
            remove(folder)


def make_cgroup(limits: Limits, owner: int | None = None, root: str = "") -> WorkerCgroup:
    """Make a control group with these limits, below that of the calling process.

    Args:
        limits: memory, cores and processes are those of all its members together.
        owner: the user that will put processes into it, when it is not the caller.
        root: stands before every path, for tests.

    Raises:
        CgroupError: this machine has none, or they are not the caller's to write.
    """
    wanted = _wanted(limits)
    if not wanted:
        raise CgroupError("no limit is asked for")
    made: list[str] = []
    try:
        held = _make_groups(limits, wanted, made, root)
        if owner is not None:
            for folder in made:
                os.chown(f"{folder}/cgroup.procs", owner, owner)
        if held:
            return WorkerCgroup(tuple(made), held)
    except OSError as exc:
        for folder in made:
            remove(folder)
        raise CgroupError(f"it cannot be written: {exc.strerror}") from exc
    raise CgroupError("none of the controllers memory, cpu and pids is mounted")


def _make_groups(limits: Limits, wanted: list[str], made: list[str], root: str) -> tuple[str, ...]:
    """Make the groups that hold what is wanted, noted in ``made``; return what they hold."""
    memberships = _read(f"{root}/proc/self/cgroup")
    mounts = _find_mounts(_read(f"{root}/proc/self/mountinfo"))
    name = f"{PREFIX}{os.getpid()}"
    unified = _locate("", memberships, mounts, root)
    available = _read(f"{unified}/cgroup.controllers").split() if unified else []
    shared = [each for each in wanted if each in available]
    if unified and shared:
        folder = _make_unified(unified, name, shared, made)
        for controller in shared:
            _set_v2(folder, controller, limits)
    held = list(shared)
    for controller in wanted:
        place = None if controller in shared else _locate(controller, memberships, mounts, root)
        if place is None:
            continue
        folder = f"{place}/{name}"
        if folder not in made:  # two controllers may share a hierarchy
            _sweep(place, root)
            _make(folder, made)
        _set_v1(folder, controller, limits)
        held.append(controller)
    return tuple(held)


def _sweep(parent: str, root: str) -> None:
    """Remove groups of hosts that are gone: one that was root once could not do so itself."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        pid = name.removeprefix(PREFIX)
        if pid != name and pid.isdigit() and not os.path.exists(f"{root}/proc/{pid}"):
            remove(f"{parent}/{name}")


def remove(folder: str) -> None:
    """Remove a control group that nobody is in; nothing when it cannot be."""
    try:
        os.rmdir(folder)
    except OSError:
        return


def _wanted(limits: Limits) -> list[str]:
    values = (limits.memory_bytes, limits.cpu_cores, limits.processes)
    return [name for name, value in zip(CONTROLLERS, values, strict=True) if value is not None]


def _make(folder: str, made: list[str]) -> None:
    make_folder(folder)
    made.append(folder)


def _make_unified(parent: str, name: str, controllers: list[str], made: list[str]) -> str:
    """Make a group of v2 with these controllers, which the group above has to hand down.

    It may hand down only when no process is in it itself (the root may always). Where this process
    is alone in it, as in a container, it moves one group down.
    """
    handed_down = _read(f"{parent}/cgroup.subtree_control").split()
    missing = [f"+{each}" for each in controllers if each not in handed_down]
    if missing:
        try:
            write_file(f"{parent}/cgroup.subtree_control", " ".join(missing))
        except OSError:
            if _read(f"{parent}/cgroup.procs").split() != [str(os.getpid())]:
                raise
            own = f"{parent}/{name}-host"
            make_folder(own)
            write_file(f"{own}/cgroup.procs", str(os.getpid()))
            write_file(f"{parent}/cgroup.subtree_control", " ".join(missing))
    _sweep(parent, "")
    folder = f"{parent}/{name}"
    _make(folder, made)
    return folder


def _set_v1(folder: str, controller: str, limits: Limits) -> None:
    if controller == "memory":
        write_file(f"{folder}/memory.limit_in_bytes", str(limits.memory_bytes))
        if os.path.exists(f"{folder}/memory.memsw.limit_in_bytes"):
            write_file(f"{folder}/memory.memsw.limit_in_bytes", str(limits.memory_bytes))
    elif controller == "cpu":
        write_file(f"{folder}/cpu.cfs_period_us", str(PERIOD_US))
        write_file(f"{folder}/cpu.cfs_quota_us", str(_quota_us(limits)))
    else:
        write_file(f"{folder}/pids.max", str(limits.processes))


def _set_v2(folder: str, controller: str, limits: Limits) -> None:
    if controller == "memory":
        write_file(f"{folder}/memory.max", str(limits.memory_bytes))
        if os.path.exists(f"{folder}/memory.swap.max"):
            write_file(f"{folder}/memory.swap.max", "0")
    elif controller == "cpu":
        write_file(f"{folder}/cpu.max", f"{_quota_us(limits)} {PERIOD_US}")
    else:
        write_file(f"{folder}/pids.max", str(limits.processes))


def _quota_us(limits: Limits) -> int:
    assert limits.cpu_cores is not None
    # The kernel takes no quota under a millisecond.
    return max(1000, round(limits.cpu_cores * PERIOD_US))


def _find_mounts(text: str) -> dict[str, tuple[str, str]]:
    """Return where each controller is mounted, and which group is seen there; "" is v2."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        # id, parent, device, root, point, options, fields, "-", kind, source, options: proc(5)
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) < 6 or len(right) < 3:
            continue
        root, point = _unescape(left[3]), _unescape(left[4])
        if right[0] == "cgroup2":
            found.setdefault("", (point, root))
        elif right[0] == "cgroup":
            for controller in right[2].split(","):
                found.setdefault(controller, (point, root))
    return found


def _locate(
    controller: str, memberships: str, mounts: dict[str, tuple[str, str]], root: str
) -> str | None:
    """Return the folder of the group that this process is in, if it can be seen."""
    if controller not in mounts:
        return None
    point, seen = mounts[controller]
    for line in memberships.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            inside = path[len(seen.rstrip("/")) :] if path.startswith(seen) else path
            folder = f"{root}{point}/{inside.strip('/')}".rstrip("/")
            return folder if os.path.isdir(folder) else f"{root}{point}"
    return None


def _unescape(text: str) -> str:
    """Undo what proc(5) does to spaces, tabs, line ends and backslashes."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def make_folder(path: str) -> None:
    """Make a control group: the kernel puts its files there at once."""
    os.mkdir(path)


def write_file(path: str, text: str) -> None:
    """Write one of the kernel's files."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

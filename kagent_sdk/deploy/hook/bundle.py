"""What a hook reads: an OCI state, a bundle's config.json, and what the machine says."""

from __future__ import annotations

import json
import os
import posixpath
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_CONFIG_BYTES = 4 << 20

NAMESPACES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt"}
"""By OCI's names: those of /proc/PID/ns."""


Loose = tuple[str, str, str]
"""Which control, what was found, what is wanted."""


class Malformed(Exception):  # noqa: N818 - a verdict on a bundle, no fault of this program
    """A bundle says something that the specification does not know."""


class Machine(NamedTuple):
    """What a decision needs to know beside the bundle.

    Attributes:
        is_unified: it has cgroups of version 2 alone.
        is_mapped: the hook itself runs in a user namespace (a rootless engine).
        shared: which of NAMESPACES the container has in common with the hook, as seen in /proc.
        resolve: a path without links.
        kind_of: "socket", "device" or "other", of what is at a path.
    """

    is_unified: bool
    is_mapped: bool
    shared: frozenset[str]
    resolve: Callable[[str], str]
    kind_of: Callable[[str], str]


class Case(NamedTuple):
    """What is judged.

    Attributes:
        config: of `parse`.
        wanted: as the export writes it.
        machine: where it is to run.
    """

    config: dict[str, Any]
    wanted: dict[str, Any]
    machine: Machine

    @property
    def process(self) -> dict[str, Any]:
        """What is to run."""
        return object_of(self.config, "process")

    @property
    def linux(self) -> dict[str, Any]:
        """What the specification has for Linux alone."""
        return object_of(self.config, "linux")

    @property
    def resources(self) -> dict[str, Any]:
        """What the cgroup is told."""
        return object_of(self.linux, "resources")


def object_of(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an object, empty where there is none.

    Raises:
        Malformed: it is something else.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{key} is no object")
    return value


def list_of(parent: dict[str, Any], key: str, kind: type) -> list[Any]:
    """Return a list of one type, empty where there is none.

    Raises:
        Malformed: it is something else.
    """
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(type(each) is kind for each in value):
        raise Malformed(f"{key} is no list of {kind.__name__}")
    return value


def number_of(parent: dict[str, Any], key: str) -> int | None:
    """Return a whole number; None where there is none.

    Raises:
        Malformed: it is something else.
    """
    value = parent.get(key)
    if value is not None and type(value) is not int:
        raise Malformed(f"{key} is no whole number")
    return value


def parse(text: bytes) -> dict[str, Any]:
    """Return a JSON object with its keys in lower case.

    Runtimes in Go take a key in whatever case, and the last of two: one that is there twice, in
    whatever case, is refused, so that they and this program read the same.

    Raises:
        Malformed: it is no JSON object, or ambiguous.
    """
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"no JSON: {type(exc).__name__}") from None
    if not isinstance(value, dict):
        raise Malformed("no JSON object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key.casefold(): value for key, value in pairs}
    if len(found) != len(pairs):
        raise Malformed("a key is there twice")
    return found


def read_bundle(state: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of a state's bundle.

    Raises:
        Malformed: there is none that only this user can have written.
    """
    bundle = state.get("bundle")
    if not isinstance(bundle, str) or not bundle.startswith("/") or "\0" in bundle:
        raise Malformed("the state names no bundle")
    # Not blocking: a FIFO would hold up the engine.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(posixpath.join(bundle, "config.json"), flags)
    except OSError as exc:
        raise Malformed(f"cannot open config.json of the bundle: {exc.strerror}") from None
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise Malformed("config.json of the bundle is no file")
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
            raise Malformed("config.json of the bundle can be written by others")
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise Malformed(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
    config = parse(text)
    path = object_of(config, "root").get("path")
    if isinstance(path, str):
        config["root"]["path"] = posixpath.join(bundle, path)
    return config


def look_around(state: dict[str, Any]) -> Machine:
    """Return what the machine says of the container's process and of this one.

    Raises:
        Malformed: the process cannot be looked at.
    """
    pid = number_of(state, "pid")
    if pid is None or pid <= 0:
        raise Malformed("the state names no process")
    try:
        shared = frozenset(
            kind
            for kind, name in NAMESPACES.items()
            if _link(f"/proc/{pid}/ns/{name}") == _link(f"/proc/self/ns/{name}")
        )
        with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123 - a kernel's file
            is_mapped = file.read(4096).split() != ["0", "0", "4294967295"]
    except OSError as exc:
        raise Malformed(f"cannot look at process {pid}: {exc.strerror}") from None
    is_unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # noqa: PTH110 - as above
    return Machine(is_unified, is_mapped, shared, os.path.realpath, kind_of)


def _link(path: str) -> str:
    return os.readlink(path)  # noqa: PTH115 - no Path in what starts with every container


def kind_of(path: str) -> str:
    """Return what is at a path, as far as it matters; what cannot be looked at is a device."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as above
    except FileNotFoundError:
        return "other"
    except (OSError, ValueError):
        return "device"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "other"


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder, or in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def some(values: Any) -> str:
    """Return the first values of many, for a line."""
    shown = [show(value) for value in list(values)[:5]]
    return ", ".join(shown) + (" and more" if len(values) > len(shown) else "")


def show(value: object) -> str:
    """Return a value of a bundle as it can stand in a line: printable, and not long."""
    text = "".join(mark if mark.isprintable() else "?" for mark in str(value)[:80])
    return text or '""'

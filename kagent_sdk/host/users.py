"""Started by root: hand the agent's folders over, see that all can be read, become user 1000."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from kagent_sdk.config.sandbox import WRITABLE
from kagent_sdk.errors import StartupError
from kagent_sdk.sandbox.policy import AGENT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kagent_sdk.config.models import AgentConfig

HANDED_OVER = ("runtime", "logs")

MAX_DEPTH = 100
"""Folders in folders; each is held open on the way down."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe without a writer, or a device, must not hold up the start.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def becomes_agent(config: AgentConfig) -> bool:
    """Tell whether this process was started by root and has to become `AGENT_ID`."""
    return config.worker.user == "agent" and config.sandbox.mode != "off" and os.geteuid() == 0


def become_agent(directory: Path, config: AgentConfig) -> None:
    """Turn this process, for good, from root into user and group `AGENT_ID` without any others.

    ``runtime/`` and ``logs/`` are handed over first. Call it before there are threads.

    Raises:
        StartupError: something cannot be read by that user, or handed over; nothing is changed
            then but owners.
    """
    for name in HANDED_OVER:
        try:
            hand_over(directory / name)
        except OSError as exc:
            raise StartupError(
                f"cannot hand {name}/ over to user {AGENT_ID}: {exc.strerror}; "
                "set worker.user: keep in config.yaml to stay root"
            ) from exc
    _check_access(directory, config)
    os.setgroups([])
    os.setresgid(AGENT_ID, AGENT_ID, AGENT_ID)
    os.setresuid(AGENT_ID, AGENT_ID, AGENT_ID)


def hand_over(folder: Path) -> None:
    """Make `AGENT_ID` the owner of a folder and of all in it, as far as it is root's.

    Who was `AGENT_ID` before could put anything into it: no link is followed, a file that is
    somewhere else as well (a hard link) is left alone, and so is another file system. The contents of
    ``runtime/cache`` and ``runtime/data`` are looked at once: they belong to the worker from then on.

    Raises:
        OSError: a folder cannot be opened or changed.
    """
    if os.path.islink(folder):
        return  # to a place that its owner has chosen; whether it can be written is seen later
    descriptor = os.open(folder, _FOLDER)
    try:
        _hand_over(descriptor, os.fstat(descriptor).st_dev, os.path.basename(folder), 0)
    finally:
        os.close(descriptor)


def _hand_over(folder: int, device: int, name: str, depth: int) -> None:
    was_handed_over = os.fstat(folder).st_uid == AGENT_ID
    _give(folder)
    if (was_handed_over and name in WRITABLE) or depth > MAX_DEPTH:
        return
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for each, is_folder in found:
        try:
            descriptor = os.open(each, _FOLDER if is_folder else _FILE, dir_fd=folder)
        except OSError:
            continue  # a link, a socket, or something that has just gone
        try:
            status = os.fstat(descriptor)
            if status.st_dev != device:
                continue
            if stat.S_ISDIR(status.st_mode):
                _hand_over(descriptor, device, f"{name}/{each}", depth + 1)
            elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                _give(descriptor)
        finally:
            os.close(descriptor)


def _give(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid == 0 or status.st_gid == 0:
        os.fchown(descriptor, AGENT_ID, AGENT_ID)


def _check_access(directory: Path, config: AgentConfig) -> None:
    """See that user `AGENT_ID` can read what host and worker need.

    Raises:
        StartupError: it cannot; names the first folder in the way.
    """
    groups, effective_group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(AGENT_ID)
    os.seteuid(AGENT_ID)
    try:
        found = next(_unreadable(directory, config), None)
    finally:
        os.seteuid(0)
        os.setegid(effective_group)
        os.setgroups(groups)
    if found is not None:
        what, path = found
        raise StartupError(
            f"user {AGENT_ID} cannot read {what}: {path} is closed to it; open it, or set "
            "worker.user: keep in config.yaml to stay root without capabilities"
        )


def _unreadable(directory: Path, config: AgentConfig) -> Iterator[tuple[str, str]]:
    package = os.path.dirname(os.path.dirname(__file__))
    needed = [
        ("the interpreter", os.path.realpath(sys.executable), os.R_OK | os.X_OK),
        ("Python's library", os.path.dirname(os.__file__), os.R_OK | os.X_OK),
        ("the installed kagent_sdk", package, os.R_OK | os.X_OK),
        ("the agent's folder", str(directory), os.R_OK | os.X_OK),
        ("config.yaml", str(directory / "config.yaml"), os.R_OK),
    ]
    if config.worker.command is None:
        needed.append(("the entrypoint", str(directory / config.entrypoint), os.R_OK))
    for what, path, mode in needed:
        if mode == os.R_OK and not os.path.lexists(path):
            # Either it is not there, which is nobody's fault here, or a folder above is closed.
            path = os.path.dirname(path)  # noqa: PLW2901 - looked at in its place
            mode = os.X_OK  # noqa: PLW2901
        if not os.access(path, mode, effective_ids=True):
            yield what, _first_closed(path)


def _first_closed(path: str) -> str:
    """Return the outermost part of a path that is closed to the effective user."""
    parts = path.split("/")
    for length in range(1, len(parts)):
        folder = "/".join(parts[:length]) or "/"
        if not os.access(folder, os.X_OK, effective_ids=True):
            return folder
    return path

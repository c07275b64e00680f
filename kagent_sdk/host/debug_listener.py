"""Where the debug socket is, and listening there so that nobody else can get at it.

All of it looks at files: called in a thread. Linux only, as SO_PEERCRED is.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.errors import StartupError

SHARED_FOLDER = Path("/debug")
"""Where the images have the socket: a folder of its own, to be mounted."""

SHARED_NAME = "socket"
OWN_PLACE = Path("runtime", "debug.sock")

MAX_PATH_BYTES = 107
"""Of ``sun_path``, without the zero at its end (unix(7))."""

BACKLOG = 64
MODE = 0o600


@dataclass(frozen=True, slots=True)
class DebugListener:
    """A listening socket, non-blocking, and the file that leads to it.

    Attributes:
        inode: device and number of the file: another one at the path is not ours to remove.
    """

    socket: socket.socket
    path: Path
    inode: tuple[int, int]

    def close(self) -> None:
        """Stop listening, and remove the file if it is still ours; may be called again."""
        self.socket.close()
        with suppress(OSError):
            if _inode(self.path) == self.inode:
                self.path.unlink()


def choose_path(directory: Path, configured: str | None) -> Path:
    """Return where to listen: see ``debug.socket``.

    Args:
        directory: the agent's folder.
        configured: ``debug.socket``.
    """
    if configured is not None:
        return directory / configured
    if os.access(SHARED_FOLDER, os.W_OK | os.X_OK):
        return SHARED_FOLDER / SHARED_NAME
    return directory / OWN_PLACE


def open_listener(path: Path) -> DebugListener:
    """Listen on a socket that this user alone, and root, can connect to.

    The socket of a host that has died is replaced.

    Raises:
        StartupError: it cannot be had there; the message says why, and the way out.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise StartupError(
            f"the path of the debug socket is too long: {path} has {len(os.fsencode(path))} bytes, "
            f"the kernel takes {MAX_PATH_BYTES}; set debug.socket to a shorter one"
        )
    try:
        with _locked(path.parent) as folder:
            check_folder(path.parent, os.fstat(folder))
            _clear(path)
            return _bind(path)
    except OSError as exc:
        raise StartupError(f"cannot listen on the debug socket {path}: {exc.strerror}") from exc


def check_folder(path: Path, status: os.stat_result) -> None:
    """See that nobody else can put something in the socket's place.

    The sticky bit does not help: it keeps others from taking the socket away, not from being there
    first.

    Raises:
        StartupError: somebody can.
    """
    way_out = "or set debug.socket to a path in a folder of the agent's own"
    if status.st_uid not in (os.geteuid(), 0):
        raise StartupError(
            f"the folder of the debug socket, {path}, belongs to user {status.st_uid}; give it to "
            f"user {os.geteuid()}, {way_out}"
        )
    if status.st_mode & stat.S_IWOTH:
        raise StartupError(
            f"anyone may write to the folder of the debug socket, {path}; chmod o-w it, {way_out}"
        )
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        raise StartupError(
            f"group {status.st_gid} may write to the folder of the debug socket, {path}; chmod g-w "
            f"it, {way_out}"
        )


def _is_own_group(gid: int) -> bool:
    """Tell whether a group has no member but this user, as where each user has one of its name."""
    if gid == 0:
        return os.geteuid() == 0 and set(grp.getgrgid(0).gr_mem) <= {"root"}
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    is_private = user.pw_gid == gid and group.gr_name == user.pw_name
    return is_private and set(group.gr_mem) <= {user.pw_name}


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold a folder, so that of two hosts one alone finds the socket dead and replaces it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Remove what a dead host has left.

    Raises:
        StartupError: there is something else, or a host that lives.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartupError(
            f"{path} is there already, and is no socket; move it away, or set debug.socket to "
            "another path"
        )
    if _is_alive(path):
        raise StartupError(
            f"another process listens on {path}, or may: end it, and remove what it has left, or set "
            "debug.socket to another path"
        )
    path.unlink(missing_ok=True)


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its queue is full, or it is not ours
    return True


def _bind(path: Path) -> DebugListener:
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        # The file gets the socket's mode, less the umask: it is private from its first moment,
        # and no other thread's files are, as they would be with umask(2).
        os.fchmod(listener.fileno(), MODE)
        listener.bind(str(path))
        _check_mode(path)
        path.chmod(MODE)  # an umask may have taken even the owner's rights
        inode = _inode(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return DebugListener(listener, path, inode)


def _check_mode(path: Path) -> None:
    # A file system may make of it what it likes.
    if stat.S_IMODE(path.lstat().st_mode) & ~MODE:
        path.unlink()
        raise StartupError(f"the debug socket {path} cannot be made private where it is")


def _inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino

"""Read a file that holds secrets, and only one that is kept as such a file should be."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from kagent_sdk.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ROOT_UID = 0
OTHERS_MAY_READ_OR_WRITE = stat.S_IROTH | stat.S_IWOTH
# A pipe or a device must not hang the start: do not wait for its other end.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def read_secret_file(
    path: Path, shown: str, limit_bytes: int, error: type[ConfigError] = ConfigError
) -> bytes | None:
    """Return the bytes of a secret file; None when there is none.

    It must be a regular file that nobody but its owner may read or change. A file of root's may be
    readable by a group too: that is how Kubernetes mounts a secret for a user that is not root. A
    symbolic link may lead elsewhere in its own folder (as Kubernetes' ``..data``), not out of it.

    Args:
        path: where it is.
        shown: how messages call it.
        limit_bytes: the largest file to accept.
        error: what to raise.

    Raises:
        ConfigError: the file cannot be read, or must not be trusted. The message holds none of its
            content.
    """
    target = _follow_links(path, shown, error)
    if target is None:
        return None
    try:
        descriptor = os.open(target, _OPEN_FLAGS)
    except OSError as exc:
        raise error(f"{shown} cannot be read: {exc.strerror}") from None
    try:
        reason = find_fault(os.fstat(descriptor), shown)
        if reason:
            raise error(reason)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        raise error(f"{shown} is over {limit_bytes} bytes; it does not look like a file of secrets")
    return content


def refuse_own_writes(path: Path, shown: str, error: type[ConfigError] = ConfigError) -> None:
    """Refuse a file of secrets that this process could change, replace, or make changeable.

    In an image all processes of the agent have one user: what the host may write there, so may
    whoever breaks out of the worker.

    Args:
        path: where it is; it must exist.
        shown: how messages call it.
        error: what to raise.

    Raises:
        ConfigError: it is not on a read-only mount and not out of this user's reach.
    """
    target = path.resolve()
    try:
        reason = find_reach(
            os.geteuid(),
            target.stat().st_uid,
            is_mounted_read_only=bool(os.statvfs(target).f_flag & os.ST_RDONLY),
            may_write=any(
                os.access(each, os.W_OK, effective_ids=True)
                for each in (target, target.parent, path.parent)
            ),
        )
    except OSError as exc:
        raise error(f"{shown} cannot be read: {exc.strerror}") from None
    if reason:
        raise error(
            f"{shown} {reason}: mount it read-only, or set secrets.read_only_mount to false"
        )


def find_reach(user_id: int, owner_id: int, *, is_mounted_read_only: bool, may_write: bool) -> str:
    """Return how a user could change a file; empty when it could not."""
    if may_write:
        return "can be changed or replaced by the agent's own user"
    if user_id == owner_id and not is_mounted_read_only:
        return "belongs to the agent's own user, who could make it writable"
    return ""


def _follow_links(path: Path, shown: str, error: type[ConfigError]) -> Path | None:
    try:
        folder = path.parent.resolve(strict=True)
        target = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise error(f"{shown} is a symbolic link to nothing") from None
        return None
    except (OSError, RuntimeError):
        # Python 3.11 and 3.12 raise RuntimeError for links in a circle, later ones OSError.
        raise error(f"{shown} cannot be found: its symbolic links lead nowhere") from None
    if not target.is_relative_to(folder):
        raise error(f"{shown} is a symbolic link that leads out of its folder; put the file there")
    return target


def find_fault(status: os.stat_result, shown: str) -> str:
    """Return why a file of this status must not hold secrets; empty when it may."""
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        return f"{shown} is not a regular file"
    permissions = f"mode {stat.S_IMODE(mode):04o}"
    if mode & OTHERS_MAY_READ_OR_WRITE:
        return f"{shown} is open to every user ({permissions}); run: chmod 600 {shown}"
    if mode & stat.S_IWGRP or (mode & stat.S_IRGRP and status.st_uid != ROOT_UID):
        return f"{shown} is open to its group ({permissions}); run: chmod 600 {shown}"
    return ""

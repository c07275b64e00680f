"""Who owns what the fleet makes: started by root, agents become user 1000 and must read their own."""

from __future__ import annotations

import ctypes
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kagent_sdk.errors import OrchestratorError

TOKEN_BYTES = 32
MAX_TOKEN_BYTES = 4096
PASSABLE = 0o711
"""Of folders above the agents', when they have another user: it may pass, and list nothing."""

PRIVATE = 0o700
SECRET_MODE = 0o600
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def refuse_foreign(folder: Path) -> None:
    """See that root's own folder is nobody else's: whoever has it could make root write anywhere.

    Raises:
        OrchestratorError: it belongs to another user, or others may write there.
    """
    if os.geteuid() != 0:
        return
    for status in (folder.lstat(), folder.stat()):
        is_open = bool(status.st_mode & 0o022) and not stat.S_ISLNK(status.st_mode)
        if status.st_uid != 0 or is_open:
            raise OrchestratorError(
                f"{folder.name} can be changed by other users than root (user {status.st_uid}, mode "
                f"{stat.S_IMODE(status.st_mode):04o}); run kos-agent up as that user, or move the "
                "folder away"
            )


@contextmanager
def acting_as(owner: int | None) -> Iterator[None]:
    """Use files as another user, in this thread alone, in the time of the block (setfsuid(2)).

    In a folder that an agent may change, root would follow any link that it puts there.

    Args:
        owner: user and group; None: as the caller.
    """
    if owner is None:
        yield
        return
    library = ctypes.CDLL(None)
    # The group first: afterwards it could not be changed. Both leave other threads alone.
    library.setfsgid(owner)
    library.setfsuid(owner)
    try:
        yield
    finally:
        library.setfsuid(os.geteuid())
        library.setfsgid(os.getegid())


@contextmanager
def open_below(
    top: Path, names: Sequence[str], *, create: bool, passable: bool = False
) -> Iterator[int]:
    """Give a descriptor of a folder below one of ours; no link on the way is followed.

    Args:
        top: a folder that nobody else can replace.
        names: from there to the folder.
        create: make those that are not there.
        passable: another user has to get through those that are made.

    Raises:
        OSError: one is missing, or no folder.
    """
    folder = os.open(top, _FOLDER)
    try:
        for name in names:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, PASSABLE if passable else PRIVATE, dir_fd=folder)
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def make_folder(path: Path, top: Path, *, passable: bool = False) -> None:
    """Make a folder, and those above it up to ``top``, that only its owner can list.

    Args:
        path: of the folder, in ``top`` or ``top`` itself.
        top: the outermost that is ours.
        passable: another user has to get through all of them.

    Raises:
        OSError: it cannot be made.
    """
    for folder in reversed((path, *path.parents)):
        if not folder.is_relative_to(top):
            continue
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        if passable and not folder.stat().st_mode & 0o001:
            folder.chmod(PASSABLE)


def write_secret(path: Path, content: bytes, owner: int | None) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Args:
        path: of the file.
        content: of the file.
        owner: user and group; None: the caller.

    Raises:
        OSError: it cannot be written.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_secret_in(folder, path.name, content, owner)
    finally:
        os.close(folder)


def write_secret_in(folder: int, name: str, content: bytes, owner: int | None) -> None:
    """Write a secret as `write_secret` does, into a folder that is open."""
    temporary = f".{name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, SECRET_MODE, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(file.fileno(), owner, owner)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def read_secret_in(folder: int, name: str, limit_bytes: int) -> bytes | None:
    """Return what is in a file of a folder that is open; None when there is no regular file."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit_bytes) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def read_secret(path: Path) -> str | None:
    """Return the text of a small file of ours; None when there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, _FILE)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip() or None


def keep_token(path: Path, owner: int | None = None) -> str:
    """Return the token in a file; a new random one is put there when there is none.

    Raises:
        OSError: it can be neither read nor written.
    """
    token = read_secret(path)
    if token is None:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_secret(path, token.encode(), owner)
    elif owner is not None and path.stat().st_uid != owner:
        os.chown(path, owner, owner, follow_symlinks=False)
    return token

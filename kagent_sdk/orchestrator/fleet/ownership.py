"""Who owns what the fleet makes: started by root, agents become user 1000 and must read their own."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_BYTES = 32
MAX_TOKEN_BYTES = 4096
PASSABLE = 0o711
"""Of folders above the agents', when they have another user: it may pass, and list nothing."""

PRIVATE = 0o700
SECRET_MODE = 0o600


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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, SECRET_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(file.fileno(), owner, owner)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_secret(path: Path) -> str | None:
    """Return the text of a small file of ours; None when there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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

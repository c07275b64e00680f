"""The files of ``runtime/cache``: into a snapshot, and out of one.

The author's code may change the folder at any time, so nothing in it is followed: each folder is
opened by its name in the one above, each file is read from the descriptor that was looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kagent_sdk.errors import SnapshotError
from kagent_sdk.snapshots.contents import FindsSecret
from kagent_sdk.snapshots.manifest import (
    CACHE,
    MAX_CACHE_FILES,
    MAX_PATH_DEPTH,
    is_cache_path,
    show,
)
from kagent_sdk.snapshots.spool import CHUNK_BYTES

OVERLAP_BYTES = 64 * 1024
"""Over any form of a secret, so that one that lies across two chunks is found."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK opening a named pipe would wait for a writer (open(2)).
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class CacheFiles:
    """What lies in a cache.

    Attributes:
        skipped: links, special files, and names that a snapshot cannot have.
    """

    folder: Path
    finds_secret: FindsSecret
    skipped: int = 0

    def add_to(self, add: Callable[[str, Iterable[bytes]], None]) -> None:
        """Add every regular file, by name.

        Args:
            add: takes the name of a member and its bytes.

        Raises:
            SnapshotError: there are too many, one holds a secret, or the folder is none.
            OSError: one cannot be read.
        """
        for count, name in enumerate(sorted(self._names(), key=str.encode)):
            if count == MAX_CACHE_FILES:
                raise SnapshotError(
                    f"runtime/cache has more than {MAX_CACHE_FILES} files; "
                    "make the snapshot without it"
                )
            descriptor = self._open(name)
            if descriptor is None:
                self.skipped += 1
                continue
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                add(f"{CACHE}{name}", self._read(file.read, name))

    def _names(self) -> Iterator[str]:
        try:
            top = os.open(self.folder, _FOLDER)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise SnapshotError(f"runtime/cache is not a folder: {exc.strerror}") from exc
        try:
            for found, (name, is_folder) in enumerate(self._walk(top, "", 1)):
                if found > 4 * MAX_CACHE_FILES:
                    raise SnapshotError(
                        "runtime/cache has too much in it; make the snapshot without it"
                    )
                if not is_folder and is_cache_path(name):
                    yield name
                else:
                    self.skipped += not is_folder
        finally:
            os.close(top)

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[tuple[str, bool]]:
        """Give what lies below a folder, and whether each is one."""
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            yield f"{prefix}{name}", is_folder
            if is_folder and depth < MAX_PATH_DEPTH:
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except OSError:
                    continue  # gone, or replaced by something else, a moment ago
                try:
                    yield from self._walk(inner, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(inner)

    def _open(self, name: str) -> int | None:
        """Open a file, folder by folder; None when it is none any more."""
        *folders, last = name.split("/")
        opened: list[int] = []
        try:
            opened.append(os.open(self.folder, _FOLDER))
            for part in folders:
                opened.append(os.open(part, _FOLDER, dir_fd=opened[-1]))
            descriptor = os.open(last, _FILE, dir_fd=opened[-1])
        except OSError:
            return None
        finally:
            for folder in opened:
                os.close(folder)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def _read(self, read: Callable[[int], bytes | None], name: str) -> Iterator[bytes]:
        before = b""
        while chunk := read(CHUNK_BYTES):
            if self.finds_secret(before + chunk):
                raise SnapshotError(
                    f"the file '{show(name)}' in runtime/cache holds a secret of the vault; "
                    "a snapshot must not: delete it, or make the snapshot without the cache"
                )
            before = (before + chunk)[-OVERLAP_BYTES:]
            yield chunk


def write_file(folder: Path, name: str, chunks: Iterable[bytes]) -> None:
    """Write a file of a snapshot into a folder that is ours alone.

    Args:
        folder: it exists.
        name: below it; the manifest has checked it.
        chunks: the bytes.

    Raises:
        OSError: the disk does not take it.
    """
    target = folder / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, _NEW_FILE, 0o600), "wb") as file:
        for chunk in chunks:
            file.write(chunk)

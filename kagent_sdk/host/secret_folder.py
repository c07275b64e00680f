"""Secrets as files, for a program that is no worker of ours: in memory, private, gone at the end.

As systemd gives them (systemd.exec(5), CREDENTIALS): one file for each secret in a folder that
``CREDENTIALS_DIRECTORY`` names. An environment would be readable in ``/proc``, inherited by every
child and printed by many a crash handler.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kagent_sdk.errors import StartupError, VaultError

ROOTS = ("/dev/shm", "/run/user/{uid}", "/run")  # noqa: S108 - looked at before anything is made there
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
PREFIX = "kagent-"
CURRENT = "current"
MAX_NAME_BYTES = 255  # NAME_MAX

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_ESCAPED = re.compile(r"\\([0-7]{3})")


class SecretFolder:
    """A folder in memory that holds the secrets of one host's workers.

    Its layout is ``kagent-PID-RANDOM/current/NAME``; ``current`` is a link, so that a new set of
    secrets replaces the old one as a whole. The host holds a lock on the folder for as long as it
    lives: one without a holder was left by a host that was killed, and the next one removes it.

    Args:
        roots: folders to look for a file system in memory.
    """

    def __init__(self, roots: Iterable[str | Path] | None = None) -> None:
        uid = os.geteuid()
        self._roots = [
            Path(str(root).format(uid=uid)) for root in (ROOTS if roots is None else roots)
        ]
        self._folder: Path | None = None
        self._lock = -1
        self._count = 0

    @property
    def path(self) -> Path | None:
        """What ``CREDENTIALS_DIRECTORY`` is to be; None before the first `replace`."""
        return None if self._folder is None else self._folder / CURRENT

    def clean(self) -> None:
        """Remove what hosts of this user left behind that are dead."""
        for root in self._roots:
            for folder in _folders_of_ours(root):
                lock = _try_lock(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

    def replace(self, secrets: Mapping[str, object]) -> None:
        """Put these secrets in place of the earlier ones, all at once.

        Args:
            secrets: by their names; what is no text is written as JSON.

        Raises:
            VaultError: a name cannot be that of a file.
            StartupError: there is no file system in memory, or no room in it. The message holds no
                secret, and the earlier secrets stay.
        """
        names = name_files(secrets)
        folder = self._folder or self._make()
        self._count += 1
        new = folder / str(self._count)
        try:
            new.mkdir(mode=0o700)
            for name, value in secrets.items():
                _write(new / names[name], value)
            link = folder / "next"
            link.unlink(missing_ok=True)  # of an attempt that failed
            link.symlink_to(new.name)
            current = folder / CURRENT
            before = current.readlink() if current.is_symlink() else None
            link.rename(current)
        except OSError as exc:
            shutil.rmtree(new, ignore_errors=True)
            raise StartupError(f"cannot write the secrets to {folder}: {exc.strerror}") from None
        if before is not None:
            shutil.rmtree(folder / before, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder; nothing when there is none."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = None

    def _make(self) -> Path:
        for root in self._roots:
            if not is_in_memory(root):
                continue
            try:
                folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
            except OSError:
                continue
            lock = _try_lock(folder)
            if lock is not None:
                self._folder, self._lock = folder, lock
                return folder
        looked = ", ".join(map(str, self._roots))
        raise StartupError(
            "secrets.expose needs a file system in memory to hand secrets to worker.command, and "
            f"there is no writable tmpfs at {looked}; mount one, such as /dev/shm"
        )


def name_files(names: Iterable[str]) -> dict[str, str]:
    """Return a file's name for each secret's: what is no letter, digit, ``.``, ``-`` becomes ``_``.

    Raises:
        VaultError: two secrets would have the same file, or one would have none.
    """
    files: dict[str, str] = {}
    for name in names:
        file = _UNSAFE.sub("_", name)
        if file.strip(".") == "" or len(file) > MAX_NAME_BYTES:
            raise VaultError(f"secrets.expose: {name!r:.80} cannot be the name of a file")
        files[name] = file
    twins = [name for name, file in files.items() if list(files.values()).count(file) > 1]
    if twins:
        raise VaultError(f"secrets.expose: {', '.join(twins)} would be the same file; rename one")
    return files


def is_in_memory(folder: Path) -> bool:
    """Tell whether a folder lies on a file system that never reaches a disk but by swapping."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
        real = folder.resolve(strict=True)
    except OSError:
        return False
    return find_file_system(mounts, real) in MEMORY_FILE_SYSTEMS


def find_file_system(mounts: str, folder: Path) -> str | None:
    """Return the type of the file system at a folder, by the text of ``/proc/self/mounts``.

    Of several mounts at one place the last one counts: it covers the others (proc(5)).
    """
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        if folder.is_relative_to(place):
            depth = len(place.parts)
            if best is None or depth >= best[0]:
                best = depth, fields[2]
    return None if best is None else best[1]


def _write(path: Path, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode(errors="surrogatepass"))


def _folders_of_ours(root: Path) -> list[Path]:
    try:
        entries = list(os.scandir(root))
    except OSError:
        return []
    return [Path(entry.path) for entry in entries if _is_ours(entry)]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if not entry.name.startswith(PREFIX):
        return False
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return entry.is_dir(follow_symlinks=False) and info.st_uid == os.geteuid()


def _try_lock(folder: Path) -> int | None:
    """Return a descriptor that locks a folder; None when another holds it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever cleans up may have been faster than the one who has just made it.
        is_there = os.path.samestat(os.fstat(descriptor), folder.lstat())
    except OSError:
        is_there = False
    if is_there:
        return descriptor
    os.close(descriptor)
    return None

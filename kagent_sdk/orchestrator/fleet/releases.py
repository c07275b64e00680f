"""Releases: the author's files as they were at one moment, and working folders made of them.

A release is a copy that nobody changes, under a name of its content. A replica's working folder is a
copy of a release, beside its own ``runtime/`` and ``logs/``: so nothing that the author edits reaches a
running agent, and to go back is to copy the release before. Where agents run in containers a release has
the image's id beside the files: so another image is another release, and the one before is still known.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kagent_sdk.config.leftovers import ANYWHERE, AT_THE_TOP, COMPILED, ENVIRONMENT_MARK
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.layout import IMAGE_MARK, RELEASE_MARK, RUNTIME_FOLDERS
from kagent_sdk.sandbox.policy import AGENT_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kagent_sdk.config.models import AgentConfig

DIGEST_CHARS = 16
KEPT_RELEASES = 5
MAX_FILES = 50_000
"""An agent is code: a folder with more files is another kind of folder, such as a home."""

_CHUNK_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Keep:
    """Names at the top of a working folder that releases do not touch once they are there."""

    names: frozenset[str]


def kept_names(config: AgentConfig) -> Keep:
    """Return what of a working folder is the agent's own: what it writes; pure."""
    written = [PurePosixPath(path) for path in config.sandbox.write]
    tops = {path.parts[0] for path in written if path.parts and not path.is_absolute()}
    return Keep(frozenset({*RUNTIME_FOLDERS, *tops} - {"..", "."}))


def make_release(source: Path, releases: Path, image: str | None = None) -> str:
    """Copy the author's files into a release, and return its name; the same content has the same name.

    Args:
        source: the author's folder.
        releases: of the agent; must exist.
        image: in which it runs; None: in none.

    Raises:
        OrchestratorError: the folder cannot be copied.
    """
    temporary = releases / f".new-{secrets.token_hex(4)}"
    try:
        with _opened(source, _FOLDER & ~os.O_NOFOLLOW) as folder:
            _copy(folder, source, temporary, _Room(source), is_top=True)
        if image is not None:
            _write_image(temporary, image)
        name = digest_of(temporary)
        target = releases / name
        if not target.exists():
            temporary.rename(target)
    except OSError as exc:
        raise OrchestratorError(
            f"cannot copy {exc.filename or source}: {exc.strerror or exc}"
        ) from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    os.utime(releases / name)
    return name


def digest_of(folder: Path) -> str:
    """Return a name for what is in a folder: names, modes, contents.

    Raises:
        OSError: something cannot be read.
    """
    total = hashlib.sha256()
    for path in _walk(folder):
        status = path.lstat()
        total.update(f"{path.relative_to(folder)}\0{stat.S_IMODE(status.st_mode):o}\0".encode())
        if stat.S_ISLNK(status.st_mode):
            total.update(os.fsencode(path.readlink()) + b"\0")
        elif stat.S_ISREG(status.st_mode):
            total.update(f"{status.st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    total.update(chunk)
    return total.hexdigest()[:DIGEST_CHARS]


def release_in(folder: Path) -> str | None:
    """Return the release that a working folder has, whole; None when it has none."""
    try:
        return (folder / RELEASE_MARK).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def image_in(release: Path) -> str | None:
    """Return the image that a release runs in; None when it says nothing of one."""
    try:
        return (release / IMAGE_MARK).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def lay_out(release: Path, folder: Path, keep: Keep) -> None:
    """Make a working folder one of this release; nothing may run in it.

    Raises:
        OrchestratorError: it cannot be made.
    """
    mark = folder / RELEASE_MARK
    try:
        if release_in(folder) == release.name:
            return
        folder.mkdir(exist_ok=True)
        _open_up(folder, release.stat())
        mark.unlink(missing_ok=True)
        for entry in list(folder.iterdir()):
            if entry.name not in keep.names:
                _remove(entry)
        room = _Room(release)
        with _opened(release, _FOLDER) as source:
            for entry in sorted(release.iterdir()):
                if not (entry.name in keep.names and (folder / entry.name).exists()):
                    _copy_entry(source, entry, folder / entry.name, room)
        mark.write_text(release.name, encoding="ascii")
    except OSError as exc:
        raise OrchestratorError(
            f"cannot make {exc.filename or folder}: {exc.strerror or exc}"
        ) from exc


def prune_releases(releases: Path, needed: Iterable[str], keep: int = KEPT_RELEASES) -> None:
    """Remove old releases, but for those that are needed; what cannot be removed stays."""
    with suppress(OSError):
        found = sorted(releases.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
        spare = set(needed)
        for entry in [each for each in found if each.name not in spare][keep:]:
            shutil.rmtree(entry, ignore_errors=True)


def _write_image(release: Path, image: str) -> None:
    mode = stat.S_IMODE(release.stat().st_mode)
    release.chmod(mode | stat.S_IRWXU)  # the author may have made the folder read-only
    mark = release / IMAGE_MARK
    mark.write_text(image, encoding="ascii")
    mark.chmod(0o644)  # whatever the umask, for modes are a part of a release's name
    release.chmod(mode)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


@dataclass(slots=True)
class _Room:
    """How many files more of a folder may be copied."""

    root: Path
    left: int = field(default_factory=lambda: MAX_FILES)

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OrchestratorError(
                f"{self.root} has more than {MAX_FILES} files: that is no agent's folder"
            )


# Copied by descriptors: a folder of the author's may be the agent's user's as well, who could put a
# link to anything into it between the look at an entry and the copy.


def _copy(source: int, path: Path, target: Path, room: _Room, *, is_top: bool = False) -> None:
    target.mkdir(0o700)
    for name in sorted(os.listdir(source)):
        if not _stays_out(path / name, is_top=is_top):
            _copy_entry(source, path / name, target / name, room)
    status = os.fstat(source)
    target.chmod(stat.S_IMODE(status.st_mode))
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid)


def _copy_entry(source: int, path: Path, target: Path, room: _Room) -> None:
    room.take()
    mode = os.stat(path.name, dir_fd=source, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(_moved_link(Path(os.readlink(path.name, dir_fd=source)), path, room.root))
    elif stat.S_ISDIR(mode):
        with _opened(path.name, _FOLDER, source) as folder:
            _copy(folder, path, target, room)
    elif stat.S_ISREG(mode):
        with _opened(path.name, _FILE, source) as descriptor:
            _copy_file(descriptor, target)


def _copy_file(source: int, target: Path) -> None:
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode):
        return
    # Nobody else's until it has its own mode: what it holds may be a key.
    descriptor = os.open(target, _NEW, 0o600)
    with os.fdopen(descriptor, "wb") as to, os.fdopen(source, "rb", closefd=False) as file:
        shutil.copyfileobj(file, to, _CHUNK_BYTES)
        if os.geteuid() == 0:
            # A key that only the agent's user can read must stay that user's.
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)


@contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_up(folder: Path, release: os.stat_result) -> None:
    """Give a working folder the mode of the release; it stays root's own, if root makes it."""
    mode = stat.S_IMODE(release.st_mode) & 0o777
    if os.geteuid() == 0:
        mode &= ~0o022  # who may write here may replace the code, and what root looks at
        if release.st_uid == AGENT_ID:
            os.chown(folder, -1, AGENT_ID)  # it got through its own folder, and must through this
            mode |= (mode & 0o500) >> 3
    folder.chmod(mode)


def _moved_link(target: Path, link: Path, root: Path) -> Path:
    """Return where a link leads to from a copy of its folder: out of the folder, by the whole path."""
    # Not resolved: what it leads to may be a link itself, or not be there.
    whole = Path(os.path.normpath(link.absolute().parent / target))
    is_inside = not target.is_absolute() and whole.is_relative_to(root.absolute())
    return target if is_inside else whole


def _stays_out(entry: Path, *, is_top: bool) -> bool:
    name = entry.name
    if name in ANYWHERE or name.endswith(COMPILED) or name in {RELEASE_MARK, IMAGE_MARK}:
        return True
    if is_top and name in AT_THE_TOP:
        return True
    return not entry.is_symlink() and (entry / ENVIRONMENT_MARK).is_file()


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()

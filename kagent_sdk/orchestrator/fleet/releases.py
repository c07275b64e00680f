"""Releases: the author's files as they were at one moment, and working folders made of them.

A release is a copy that nobody changes, under a name of its content. A replica's working folder is a
copy of a release, beside its own ``runtime/`` and ``logs/``: so nothing that the author edits reaches a
running agent, and to go back is to copy the release before.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kagent_sdk.config.leftovers import ANYWHERE, AT_THE_TOP, COMPILED, ENVIRONMENT_MARK
from kagent_sdk.errors import OrchestratorError
from kagent_sdk.orchestrator.fleet.layout import RELEASE_MARK, RUNTIME_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kagent_sdk.config.models import AgentConfig

DIGEST_CHARS = 16
KEPT_RELEASES = 5
MAX_FILES = 50_000
"""An agent is code: a folder with more files is another kind of folder, such as a home."""

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Keep:
    """Names at the top of a working folder that releases do not touch once they are there."""

    names: frozenset[str]


def kept_names(config: AgentConfig) -> Keep:
    """Return what of a working folder is the agent's own: what it writes; pure."""
    written = [PurePosixPath(path) for path in config.sandbox.write]
    tops = {path.parts[0] for path in written if path.parts and not path.is_absolute()}
    return Keep(frozenset({*RUNTIME_FOLDERS, *tops} - {"..", "."}))


def make_release(source: Path, releases: Path) -> str:
    """Copy the author's files into a release, and return its name; the same content has the same name.

    Args:
        source: the author's folder.
        releases: of the agent; must exist.

    Raises:
        OrchestratorError: the folder cannot be copied.
    """
    temporary = releases / f".new-{secrets.token_hex(4)}"
    try:
        _copy(source, temporary, source, [MAX_FILES], is_top=True)
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
        folder.chmod(stat.S_IMODE(release.stat().st_mode))
        mark.unlink(missing_ok=True)
        for entry in list(folder.iterdir()):
            if entry.name not in keep.names:
                _remove(entry)
        for entry in sorted(release.iterdir()):
            if not (entry.name in keep.names and (folder / entry.name).exists()):
                _copy_entry(entry, folder / entry.name, release, [MAX_FILES])
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


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


def _copy(source: Path, target: Path, root: Path, room: list[int], *, is_top: bool = False) -> None:
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if not _stays_out(entry, is_top=is_top):
            _copy_entry(entry, target / entry.name, root, room)
    _keep_status(source.stat(), target)


def _copy_entry(source: Path, target: Path, root: Path, room: list[int]) -> None:
    room[0] -= 1
    if room[0] < 0:
        raise OrchestratorError(
            f"{root} has more than {MAX_FILES} files: that is no agent's folder"
        )
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(_moved_link(source, root))
    elif stat.S_ISDIR(status.st_mode):
        _copy(source, target, root, room)
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
        _keep_status(status, target)


def _moved_link(link: Path, root: Path) -> Path:
    """Return where a link leads to from a copy of its folder: out of the folder, by the whole path."""
    target = link.readlink()
    # Not resolved: what it leads to may be a link itself, or not be there.
    whole = Path(os.path.normpath(link.absolute().parent / target))
    is_inside = not target.is_absolute() and whole.is_relative_to(root.absolute())
    return target if is_inside else whole


def _keep_status(status: os.stat_result, target: Path) -> None:
    target.chmod(stat.S_IMODE(status.st_mode))
    if os.geteuid() == 0:
        # A key that only the agent's user can read must stay that user's.
        os.chown(target, status.st_uid, status.st_gid)


def _stays_out(entry: Path, *, is_top: bool) -> bool:
    name = entry.name
    if name in ANYWHERE or name.endswith(COMPILED) or name == RELEASE_MARK:
        return True
    if is_top and name in AT_THE_TOP:
        return True
    return not entry.is_symlink() and (entry / ENVIRONMENT_MARK).is_file()


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()

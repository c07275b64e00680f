"""What of an agent's folder may be in its image: a copy is made of it, and engines see that alone.

Rules for the engine would not do: a Dockerfile can mount the folder that it is built from
(``RUN --mount=type=bind``), and buildah then shows what is ignored too.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.leftovers import ANYWHERE, AT_THE_TOP, COMPILED, ENVIRONMENT_MARK
from kagent_sdk.errors import DeployError
from kagent_sdk.host.confinement import find_secluded

if TYPE_CHECKING:
    from kagent_sdk.config.models import AgentConfig

IGNORE_FILE = ".dockerignore"
OTHER_IGNORE_FILE = ".containerignore"
DOCKERFILES = ("Dockerfile", "Containerfile")
NEEDED = frozenset({*DOCKERFILES, IGNORE_FILE, OTHER_IGNORE_FILE})
"""What the engine reads of the copy, even where it is to ignore that."""

FOLDER_MODE = 0o755
PROGRAM_MODE = 0o755
FILE_MODE = 0o644
MAX_IGNORE_BYTES = 1024 * 1024
_SPECIAL = frozenset("*?[\\!")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What stays out of an image.

    Attributes:
        paths: below the folder; files, or folders with all that is in them.
        inodes: files by device and number, whatever their names.
    """

    paths: frozenset[str]
    inodes: frozenset[tuple[int, int]] = frozenset()

    def cover(self, path: str, name: str, *, is_top: bool) -> bool:
        """Tell whether something stays out, by its path below the folder and its name."""
        by_name = name in ANYWHERE or name.endswith(COMPILED) or (is_top and name in AT_THE_TOP)
        return by_name or path in self.paths


def find_exclusions(
    directory: Path, config: AgentConfig, token_file: str | None = None
) -> Exclusions:
    """Return what of an agent's folder stays out of its image.

    That is what the host alone may read (state, logs, snapshots, the vault, the key of TLS), whatever it
    is called and wherever links lead, and what plain rules of the author's ``.dockerignore`` name.

    Args:
        directory: the agent's folder; absolute, without links.
        config: the agent's configuration.
        token_file: of the control plane, if it has one.
    """
    secluded = find_secluded(str(directory), config, () if token_file is None else (token_file,))
    link_tls = config.orchestrator.tls
    keys = (
        None if config.http.tls is None else config.http.tls.key,
        None if link_tls is None else link_tls.key,
    )
    secrets = [config.secrets.file, *(key for key in keys if key is not None)]
    paths = [*secluded.folders, *secluded.files, *(str(directory / name) for name in secrets)]
    inside = [os.path.relpath(path, directory) for path in paths]
    files = [Path(path) for path in secluded.files] + [directory / name for name in secrets]
    return Exclusions(
        frozenset((*inside, *plain_rules(_read_rules(directory)))),
        frozenset(filter(None, map(_inode, files))),
    )


def plain_rules(text: str) -> Iterable[str]:
    """Return the paths that a ``.dockerignore`` names as they are; pure.

    The engine follows that file itself: this only spares the copying of what is large. So patterns
    are left to it, and all of it where something is taken back (``!``).
    """
    lines = [line.strip() for line in text.splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    if any(rule.startswith("!") for rule in rules):
        return []
    return [os.path.normpath(rule.strip("/")) for rule in rules if not _SPECIAL & set(rule)]


def find_dockerfile(directory: Path) -> str | None:
    """Return the name of the author's own Dockerfile, if there is one."""
    return next((name for name in DOCKERFILES if (directory / name).is_file()), None)


def stage(directory: Path, target: Path, exclusions: Exclusions) -> tuple[str, ...]:
    """Copy what may be in an image into a new folder, and return what was left out.

    Links are copied as links; sockets, pipes and devices are not. Everything is readable for all, as
    code in an image must be, and changeable for nobody else: a mode here is no secret's keeper.

    Args:
        directory: the agent's folder.
        target: where to; it is made.
        exclusions: of `find_exclusions`.

    Raises:
        DeployError: something cannot be read or written.
    """
    left_out: list[str] = []
    try:
        _copy_folder(directory, target, "", exclusions, left_out)
    except OSError as exc:
        raise DeployError(f"cannot copy {exc.filename}: {exc.strerror}") from exc
    return tuple(sorted(left_out))


def _copy_folder(
    source: Path, target: Path, below: str, exclusions: Exclusions, left_out: list[str]
) -> None:
    target.mkdir()
    target.chmod(FOLDER_MODE)
    here = _inode(target)
    for entry in sorted(source.iterdir()):
        path = f"{below}{entry.name}"
        status = entry.lstat()
        inode = (status.st_dev, status.st_ino)
        if inode == here or inode in exclusions.inodes or _stays_out(entry, path, exclusions):
            left_out.append(path)
        elif stat.S_ISLNK(status.st_mode):
            (target / entry.name).symlink_to(entry.readlink())
        elif stat.S_ISDIR(status.st_mode):
            _copy_folder(entry, target / entry.name, f"{path}/", exclusions, left_out)
            _keep_time(target / entry.name, status)
        elif stat.S_ISREG(status.st_mode):
            shutil.copyfile(entry, target / entry.name, follow_symlinks=False)
            is_program = bool(status.st_mode & stat.S_IXUSR)
            (target / entry.name).chmod(PROGRAM_MODE if is_program else FILE_MODE)
            _keep_time(target / entry.name, status)
        else:
            left_out.append(path)


def _stays_out(entry: Path, path: str, exclusions: Exclusions) -> bool:
    is_top = path == entry.name
    if is_top and entry.name in NEEDED:
        return False
    if exclusions.cover(path, entry.name, is_top=is_top):
        return True
    return (entry / ENVIRONMENT_MARK).is_file() and not entry.is_symlink()


def _keep_time(path: Path, status: os.stat_result) -> None:
    """Let a copy be as old as the file: an engine takes it for another one else, and builds anew."""
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_rules(directory: Path) -> str:
    if (directory / OTHER_IGNORE_FILE).exists():
        return ""  # podman reads that one, and Docker the other
    try:
        with (directory / IGNORE_FILE).open("rb") as file:
            content = file.read(MAX_IGNORE_BYTES + 1)
    except OSError:
        return ""
    return "" if len(content) > MAX_IGNORE_BYTES else content.decode(errors="replace")

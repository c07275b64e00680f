"""Base images without a registry: Debian by debootstrap, made once and kept in the user's cache.

They stand for the public images that `Dockerfile.base` names: ``python:3.11-slim`` and one without
Python, to which a build adds the distribution's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.agents import REPOSITORY
from tests.images.podman import Podman, run_command

SUITE = "bookworm"
"""Its Python is 3.11, whatever the machine has."""

PIP_LOCK = REPOSITORY / "scripts" / "images" / "pip.txt"

RECIPE = 1
"""Counted up when what is done here changes: another recipe, another file in the cache."""

WASTE = (
    "dev/*",
    "proc/*",
    "sys/*",
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/*",
)
"""What the slim public images have not, either."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base image.

    Attributes:
        name: the last part of the image's name.
        packages: beside Debian's smallest set.
        has_pip: pip is put in, from its wheel: Debian's package pulls a compiler.
    """

    name: str
    packages: tuple[str, ...]
    has_pip: bool

    @property
    def key(self) -> str:
        """What tells it from another with other contents."""
        facts = repr((RECIPE, SUITE, self.packages, self.has_pip and PIP_LOCK.read_text(), WASTE))
        return hashlib.sha256(facts.encode()).hexdigest()[:12]

    @property
    def image(self) -> str:
        """The image's name."""
        return f"localhost/kagent-base/{self.name}:{self.key}"


PYTHON = Base("python", ("ca-certificates", "python3"), has_pip=True)
PLAIN = Base("plain", ("ca-certificates",), has_pip=False)


def cache_folder() -> Path:
    """Return where things are kept from one run to the next."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "kagent-sdk" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one run at a time do something that others would do as well."""
    with (cache_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def have_base(podman: Podman, base: Base, pip: list[str]) -> str:
    """Make a base image, unless it is there; return its name.

    Args:
        podman: takes the image.
        base: which.
        pip: the command of a pip that downloads.

    Raises:
        PodmanError: it cannot be made here.
    """
    with only_one(base.name):
        if not podman.has_image(base.image):
            archive = cache_folder() / f"{base.name}-{base.key}.tar"
            if not archive.exists():
                _make(base, archive, pip)
            podman.run("import", "--quiet", archive, base.image)
    return base.image


def _make(base: Base, archive: Path, pip: list[str]) -> None:
    debs = cache_folder() / "debs"
    debs.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="kagent-base-"))
    try:
        root.chmod(0o755)
        _run("debootstrap", "--variant=minbase", f"--include={','.join(base.packages)}",
             f"--cache-dir={debs}", SUITE, root)  # fmt: skip
        if base.has_pip:
            _install_pip(root, pip)
        part = archive.with_suffix(".part")
        unwanted = [f"--exclude=./{pattern}" for pattern in WASTE]
        _run("tar", "-C", root, "--numeric-owner", "--sort=name", *unwanted, "-cf", part, ".")
        part.replace(archive)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _install_pip(root: Path, pip: list[str]) -> None:
    """Install pip below /usr/local, as the public image of Python has it."""
    with tempfile.TemporaryDirectory(dir=root / "tmp") as folder:
        _run(*pip, "download", "--quiet", "--no-deps", "--dest", folder,
             "--require-hashes", "-r", PIP_LOCK)  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        inside = f"/tmp/{wheel.parent.name}/{wheel.name}"  # noqa: S108 - of the base's own root
        _run("chroot", root, "python3", f"{inside}/pip", "install", "--quiet", "--no-index",
             "--no-cache-dir", "--no-compile", "--break-system-packages", inside)  # fmt: skip


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command(*words, env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})

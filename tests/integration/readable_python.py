"""An interpreter with the package that UID 1000 can read, wherever this repository lies.

The interpreter of the tests may be in a home that only its owner enters, and so may the virtual
environment. Then both are copied: of the interpreter what a program needs, of what is installed the
named distributions and all that they require.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.agents import REPOSITORY

USER = 1000
DISTRIBUTIONS = ("kagent-sdk", "google-re2", "httpx", "numpy")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_UNNEEDED = ("site-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "config-*")


def make_readable_python(folder: Path) -> Path:
    """Make the interpreter in a new folder and return its path.

    Raises:
        AssertionError: UID 1000 cannot run it; the message says what to do.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if is_root() and not _can_run(Path(os.path.realpath(sys.executable))):
        python = _copy_interpreter(folder, version)
    else:
        python = _link_interpreter(folder)
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    _copy_distributions(packages)
    shutil.copytree(
        REPOSITORY / "kagent_sdk",
        packages / "kagent_sdk",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    subprocess.run([python, "-m", "compileall", "-q", packages / "kagent_sdk"], check=False)
    assert _can_run(python, "import kagent_sdk, aiohttp, numpy"), (
        f"UID {USER} cannot run {python}: install a Python of version "
        f"{sys.version_info.major}.{sys.version_info.minor} that every user may read, such as the "
        "package python3 of Debian, and make the tests' environment with it"
    )
    return python


def is_root() -> bool:
    """Return whether these tests may become somebody else."""
    return os.geteuid() == 0


def as_user() -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` for a process of UID 1000; of ours, if not root."""
    return {"user": USER, "group": USER, "extra_groups": []} if is_root() else {}


def _can_run(python: Path, code: str = "") -> bool:
    command: list[str | Path] = [python, "-c", code]
    try:
        done = subprocess.run(command, check=False, cwd="/", capture_output=True, **as_user())
    except OSError:
        return False
    return done.returncode == 0


def _link_interpreter(folder: Path) -> Path:
    """Make a virtual environment of the interpreter that the tests' own one is made of."""
    python = folder / "bin" / "python3"
    python.parent.mkdir(parents=True)
    base = Path(os.path.realpath(sys.executable))
    python.symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    return python


def _copy_interpreter(folder: Path, version: str) -> Path:
    base = Path(sys.base_prefix)
    python = folder / "bin" / "python3"
    python.parent.mkdir(parents=True)
    (folder / "lib").mkdir()
    # A program that is linked to libpython finds it by the absolute path that it was built with.
    built_for = f"{base}/lib\0".encode()
    moved = b"$ORIGIN/../lib\0".ljust(len(built_for), b"\0")
    program = Path(os.path.realpath(sys.executable)).read_bytes()
    python.write_bytes(
        program.replace(built_for, moved) if len(moved) == len(built_for) else program
    )
    python.chmod(0o755)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, folder / "lib", follow_symlinks=False)
    shutil.copytree(
        base / "lib" / version,
        folder / "lib" / version,
        ignore=shutil.ignore_patterns(*_UNNEEDED),
        symlinks=True,
        copy_function=_put,
    )
    return python


def _put(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, or copy it to another file system: nobody writes to these."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _copy_distributions(packages: Path) -> None:
    for name in sorted(_closure(DISTRIBUTIONS)):
        found = importlib.metadata.distribution(name)
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            if ".." in file.parts or file.parts[0] == "__pycache__" or not source.exists():
                continue
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(source, target)
    # The editable installation names this repository, which UID 1000 may not be able to read.
    for editable in packages.glob("_*kagent_sdk*"):
        editable.unlink()


def _closure(names: tuple[str, ...]) -> set[str]:
    """Return the distributions, and what is installed of those that they require."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name)
        except importlib.metadata.PackageNotFoundError:
            assert name not in names, f"the tests need {name}: it is in the group dev"
            continue
        found.add(name)
        waiting += [
            match[0]
            for line in required or ()
            if "extra ==" not in line and (match := _NAME.match(line)) is not None
        ]
    return found

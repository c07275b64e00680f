"""One virtual environment per contender, made on first use under ``.venvs/``."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
STAMP = "benchmark-stamp"

_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment and what goes into it.

    Attributes:
        name: the folder is ``.venvs/bench-<name>``.
        requirements: a requirements file; None installs this project itself, editable, with its extras.
        packages: distributions whose versions the report names.
    """

    name: str
    requirements: Path | None
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ROOT / ".venvs" / f"bench-{self.name}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def ensure(self) -> None:
        """Create or renew the environment unless it was made from the same requirements.

        Raises:
            subprocess.CalledProcessError: the packages could not be installed.
        """
        stamp = self.folder / STAMP
        wanted = self._fingerprint()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"installing {self.name} into .venvs/{self.folder.name}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
        what = ["-r", str(self.requirements)] if self.requirements else ["-e", f"{ROOT}[fast,nats]"]
        for command in _install_commands(self.folder, self.python, what):
            subprocess.run(command, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)

    def versions(self) -> dict[str, str]:
        """Return the installed version of each package that the report names."""
        command = [str(self.python), "-c", _VERSIONS, *self.packages]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: dict[str, str] = json.loads(output)
        return found

    def _fingerprint(self) -> str:
        source = self.requirements or ROOT / "pyproject.toml"
        content = source.read_bytes() + sys.version.encode() + Path(__file__).read_bytes()
        return hashlib.sha256(content).hexdigest()


def _install_commands(folder: Path, python: Path, what: list[str]) -> list[list[str]]:
    uv = shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *what],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what],
    ]

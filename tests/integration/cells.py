"""Run a piece of Python outside the sandbox and inside: what is blocked must have worked outside.

::

    with make_cell(user=1000) as cell:
        assert cell.outside("open('/etc/hostname').read()") == "ok"
        assert cell.inside("open('/etc/hostname').read()") == "PermissionError 13"
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kagent_sdk.host.grounds import find_grounds
from kagent_sdk.sandbox.plan import encode_plan, make_plan
from kagent_sdk.sandbox.policy import AGENT_ID, Limits, Policy
from kagent_sdk.sandbox.report import LaunchReport, read_report
from kagent_sdk.sandbox.start import launch_command

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"

_TRY = """
import sys
try:
    exec(compile(sys.argv[1], "attempt", "exec"), {"__name__": "attempt"})
except OSError as exc:
    print(type(exc).__name__, exc.errno)
else:
    print("ok")
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a confined process.

    Attributes:
        returncode: of the process.
        stdout, stderr: what it said.
        report: what its launcher said.
    """

    returncode: int
    stdout: str
    stderr: str
    report: LaunchReport


@dataclass(frozen=True, slots=True)
class Cell:
    """A folder, a user and an interpreter that this user can read.

    Attributes:
        folder: world-readable; ``open/`` in it belongs to the user, ``closed/`` too.
        python: the interpreter.
        package: the folder that kagent_sdk lies in, for that user.
        user: 1000, or None for the caller.
        policy: of ``inside``: reads the folder, writes ``open/`` alone.
    """

    folder: Path
    python: str
    package: Path
    user: int | None
    policy: Policy

    @property
    def open(self) -> Path:
        """The folder that may be written inside."""
        return self.folder / "open"

    @property
    def closed(self) -> Path:
        """A folder of the user's own that may be read only."""
        return self.folder / "closed"

    @property
    def hidden(self) -> Path:
        """A folder of the user's own that may not be read."""
        return self.folder / "hidden"

    def fill(self) -> None:
        """Put a file into each of the folders, and nothing else."""
        for place in (self.open, self.closed, self.hidden):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            (place / "file").write_text("text")
            for path in (place / "file", place):
                os.chown(path, self.user or -1, self.user or -1)

    def with_policy(self, **changes: object) -> Cell:
        """Return the same cell with a policy that differs."""
        return replace(self, policy=replace(self.policy, **changes))  # type: ignore[arg-type]

    def outside(self, code: str) -> str:
        """Return what an attempt comes to as the same user without a sandbox."""
        done = subprocess.run(
            [self.python, "-c", _TRY, code],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )
        return done.stdout.strip() or done.stderr

    def inside(self, code: str) -> str:
        """Return what an attempt comes to in the sandbox."""
        outcome = self.run("program", [self.python, "-c", _TRY, code])
        return outcome.stdout.strip() or outcome.stderr or str(outcome.report.error)

    def run(
        self, kind: str, arguments: Sequence[str], *, pass_fds: tuple[int, ...] = ()
    ) -> Outcome:
        """Launch something in the sandbox and wait for its end."""
        plan_fd = open_plan(self.policy)
        report_read, report_write = os.pipe()
        command = launch_command(plan_fd, report_write, os.getpid(), kind, arguments)
        script = self.package / "kagent_sdk" / "sandbox" / "launch.py"
        popen = subprocess.Popen(
            [self.python, "-S", str(script), *command[3:]],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(plan_fd, report_write, *pass_fds),
        )
        os.close(plan_fd)
        os.close(report_write)
        with os.fdopen(report_read, "rb") as report:
            stdout, stderr = popen.communicate()
            return Outcome(popen.returncode, stdout, stderr, read_report(report.read()))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self.package}:{self.folder}"}


@contextmanager
def make_cell(user: int | None) -> Iterator[Cell]:
    """Make a cell for the caller, or for user 1000.

    pytest's own folders cannot be read by another user, nor can an interpreter in root's home.
    """
    folder = Path(tempfile.mkdtemp(prefix="cell-")).resolve()
    try:
        folder.chmod(0o755)
        python, package = sys.executable, REPOSITORY
        if user is not None and os.geteuid() != 0:
            pytest.skip("platform: only root can become another user")
        if user is not None and not _can_run(python, package, user):
            python, package = SYSTEM_PYTHON, _copy_package(folder)
            if not _can_run(python, package, user):
                pytest.skip("platform: no Python 3.11 that user 1000 can read")
        cell = Cell(folder, python, package, user, _make_policy(folder, package, user))
        cell.fill()
        yield cell
    finally:
        shutil.rmtree(folder)


def _make_policy(folder: Path, package: Path, user: int | None) -> Policy:
    grounds = find_grounds([str(package), *filter(None, sys.path)])
    return Policy(
        user=user,
        read=(*grounds.read, str(folder)),
        write=(*grounds.write, str(folder / "open")),
        execute=(*grounds.execute, str(package)) if package == REPOSITORY else grounds.execute,
        hidden=(str(folder / "hidden"),),
        # Of all the processes of root and user 1000 some may come and go while a test runs.
        limits=Limits(),
    )


def _can_run(python: str, package: Path, user: int) -> bool:
    if user == AGENT_ID and not os.access(python, os.X_OK):
        return False
    try:
        done = subprocess.run(
            [
                python,
                "-c",
                "import kagent_sdk.sandbox.start, sys; sys.exit(sys.version_info < (3, 11))",
            ],
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            check=False,
            user=user,
            group=user,
            extra_groups=[],
        )
    except OSError:
        return False
    return done.returncode == 0


def _copy_package(folder: Path) -> Path:
    target = folder / "package"
    package = REPOSITORY / "kagent_sdk"
    shutil.copytree(
        package / "sandbox",
        target / "kagent_sdk" / "sandbox",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("__init__.py", "errors.py"):
        shutil.copy(package / name, target / "kagent_sdk" / name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def open_plan(policy: Policy) -> int:
    """Return a descriptor that one process can read the plan of a policy from."""
    descriptor = os.memfd_create("plan")
    os.write(descriptor, encode_plan(make_plan(policy)))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor

"""A disk that fails while the state's file is written: a good one is there at every moment."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from kagent_sdk.state.memory_file import check_memory_file
from kagent_sdk.state.memory_store import NAME, PREVIOUS_NAME
from tests.agents import REPOSITORY
from tests.integration.faulty_disk import Call, Fault, FaultyDisk
from tests.integration.steady_exporter import KEYS, LIMITS

EVERYTHING = Call.WRITE | Call.SYNC | Call.CREATE | Call.RENAME | Call.LINK
STEPS = 8
"""The draft is made, written in pieces and synced; a link and two renames; the folder is synced."""


@pytest.fixture
def disk(faulty_library: Path, tmp_path: Path) -> Iterator[FaultyDisk]:
    """Return a disk that can be made to fail."""
    with closing(FaultyDisk(faulty_library, tmp_path)) as made:
        yield made


@dataclass
class Exporter:
    """The process of `tests.integration.steady_exporter`."""

    process: subprocess.Popen[str]

    def export(self) -> str:
        """Let it export once; return the word that it says, and what follows; empty: it is dead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def write(self) -> str:
        """Let it export once, which must succeed; return the file's hash."""
        word, _, sha256 = self.export().partition(" ")
        assert word == "written"
        return sha256


@contextmanager
def exporting(directory: Path, disk: FaultyDisk) -> Iterator[Exporter]:
    """Run an exporter that has filled its state for the time of the block."""
    (directory / "runtime").mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.steady_exporter", str(directory)],
        cwd=REPOSITORY,
        env=os.environ | disk.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        exporter = Exporter(process)
        try:
            for _ in range(KEYS):
                exporter.write()
            yield exporter
        finally:
            process.kill()


def good_files(directory: Path) -> list[str]:
    """Return the hashes of the file and of the one before it; each must be whole."""
    paths = [directory / "runtime" / name for name in (NAME, PREVIOUS_NAME)]
    return [check_memory_file(path, LIMITS) for path in paths if path.exists()]


@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        pytest.param(Fault.FAIL, 1, id="one call fails"),
        pytest.param(Fault.TEAR, 1, id="one call is torn"),
        pytest.param(Fault.FAIL, 0, id="all fail from there on"),
    ],
)
def test_the_last_good_file_survives_a_fault_at_every_step(
    disk: FaultyDisk, tmp_path: Path, *, fault: Fault, limit: int
) -> None:
    """A full disk, or a broken one: the state of the last export can still be read."""
    step, said = 0, ""
    with exporting(tmp_path, disk) as exporter:
        for step in count():
            last = exporter.write()
            disk.arm(
                fault, EVERYTHING, error=errno.ENOSPC, skip=step, limit=limit, files="/runtime"
            )
            said = exporter.export()
            disk.heal()
            if not disk.injected:
                break
            assert said.startswith("written ") or said == f"failed {errno.ENOSPC}"
            assert last in good_files(tmp_path)

    assert step >= STEPS
    assert said.removeprefix("written ") == good_files(tmp_path)[0]
    left = {file.name for file in (tmp_path / "runtime").iterdir()}
    assert left == {NAME, PREVIOUS_NAME}


def test_the_last_good_file_survives_a_death_at_every_step(
    disk: FaultyDisk, tmp_path: Path
) -> None:
    """The host is killed while it exports: the next one finds a whole file, old or new."""
    step = 0
    for step in count():
        with exporting(tmp_path, disk) as exporter:
            last = exporter.write()
            disk.arm(Fault.KILL, EVERYTHING, skip=step, files="/runtime")
            said = exporter.export()
            disk.heal()
            if not disk.injected:
                break
            assert said == ""
            assert exporter.process.wait(30) == -signal.SIGKILL
        assert last in good_files(tmp_path)

    assert step >= STEPS


def test_short_writes_are_finished(disk: FaultyDisk, tmp_path: Path) -> None:
    """A write may do less than it was asked to (write(2)): the rest must follow."""
    with exporting(tmp_path, disk) as exporter:
        with disk.failing(Fault.SHORTEN, Call.WRITE, files="/runtime"):
            last = exporter.write()

        assert good_files(tmp_path)[0] == last

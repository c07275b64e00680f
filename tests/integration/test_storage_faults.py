"""What the database acknowledged is on disk, whatever the disk does and whenever the process dies."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kagent_sdk.storage.database import open_database
from tests.agents import REPOSITORY
from tests.integration.faulty_disk import Call, Fault, FaultyDisk
from tests.integration.log_files import mounted_tmpfs
from tests.integration.waiting import wait_until

DEATHS = 100 if os.environ.get("KOS_TEST_LONG") == "1" else 5

SOME = 60
"""Writes that are enough to call it running; a checkpoint comes about every hundred of them."""


@pytest.fixture
def disk(faulty_library: Path, tmp_path: Path) -> Iterator[FaultyDisk]:
    """Return a disk that can be made to fail."""
    with closing(FaultyDisk(faulty_library, tmp_path)) as made:
        yield made


@dataclass
class SteadyWriter:
    """The process of `tests.integration.steady_writer`, and what it has noted."""

    path: Path
    durability: str = "process"
    notes_file: Path = field(init=False)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notes_file = self.path.with_name("notes")

    @property
    def notes(self) -> list[str]:
        """What it has noted, in all its runs."""
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def noted(self, word: str) -> list[str]:
        """Return the rest of the lines that begin with a word."""
        return [
            rest for first, _, rest in (line.partition(" ") for line in self.notes) if first == word
        ]

    def start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start it once more."""
        notes, run = self.notes_file, f"run{len(self.processes)}"
        module = "tests.integration.steady_writer"
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(self.path), self.durability, str(notes), run],
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    @contextmanager
    def running(self, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run it for the time of the block; it must end well, unless it was killed there."""
        before = len(self.noted("closed"))
        process = self.start(environment)
        assert process.stdin is not None
        try:
            yield process
            if process.poll() is None:
                process.stdin.close()
                assert process.wait(30) == 0
                assert len(self.noted("closed")) == before + 1
        finally:
            process.stdin.close()
            process.kill()
            process.wait()

    def fail_to_start(self, environment: dict[str, str]) -> None:
        """Start it, and wait until it has noted why it cannot go on."""
        with self.start(environment) as process:
            try:
                wait_until(lambda: process.poll() is not None)
                assert process.returncode == 0
            finally:
                process.kill()

    def wait_for_more(self, word: str, count: int = 1) -> None:
        """Wait until it has noted a word so many times more."""
        wanted = len(self.noted(word)) + count
        wait_until(lambda: len(self.noted(word)) >= wanted)

    def check(self) -> set[str]:
        """Open the database as the next start does; return its keys, which must be all it kept."""
        opened = open_database(self.path, "process", now_s=0)
        opened.close()
        assert opened.quarantined is None
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            keys = {key for (key,) in connection.execute("SELECT key FROM state")}
            counted = connection.execute(
                "SELECT value FROM meta WHERE name = 'state_keys'"
            ).fetchone()
        assert not set(self.noted("kept")) - keys, "acknowledged and lost"
        assert counted == (len(keys),)
        return keys


@dataclass(frozen=True)
class Refusal:
    """A fault that SQLite reports, and how."""

    fault: Fault
    calls: Call
    error: int
    durability: str
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Refusal(Fault.FAIL, Call.WRITE, errno.ENOSPC, "process", "disk is full"),
        Refusal(Fault.FAIL, Call.GROW, errno.ENOSPC, "process", "disk is full"),
        Refusal(Fault.FAIL, Call.WRITE, errno.EIO, "process", "disk I/O error"),
        Refusal(Fault.TEAR, Call.WRITE, errno.ENOSPC, "process", "disk is full"),
        Refusal(Fault.TEAR, Call.WRITE, errno.EIO, "power", "disk I/O error"),
        Refusal(Fault.FAIL, Call.SYNC, errno.EIO, "power", "disk I/O error"),
    ],
    ids=repr,
)
def test_a_disk_that_fails_for_a_while_costs_refusals_only(
    disk: FaultyDisk, tmp_path: Path, case: Refusal
) -> None:
    """Refused is refused, kept is kept, what must be written waits; and it heals by itself."""
    writer = SteadyWriter(tmp_path / "journal.db", case.durability)
    with writer.running(disk.environment):
        writer.wait_for_more("kept", SOME)
        with disk.failing(case.fault, case.calls, error=case.error):
            writer.wait_for_more("refused", SOME)
        writer.wait_for_more("well")
        writer.wait_for_more("kept", SOME)
    keys = writer.check()

    refused = writer.noted("refused")
    assert not keys.intersection(refused)
    assert not [key for key in refused if "/must/" in key]
    assert case.message in writer.noted("trouble")[0]


@pytest.mark.parametrize(
    ("fault", "calls", "durability"),
    [
        (Fault.SHORTEN, Call.WRITE, "power"),
        # Only checkpoints wait for the disk there: what they could not copy stays in the log.
        (Fault.FAIL, Call.SYNC, "process"),
    ],
)
def test_some_faults_cost_nothing(
    disk: FaultyDisk, tmp_path: Path, *, fault: Fault, calls: Call, durability: str
) -> None:
    """What can be written in a second try, or later, is; nobody hears of it."""
    writer = SteadyWriter(tmp_path / "journal.db", durability)
    with writer.running(disk.environment):
        writer.wait_for_more("kept", SOME)
        with disk.failing(fault, calls):
            writer.wait_for_more("kept", 5 * SOME)
    writer.check()

    assert writer.noted("refused") == []
    assert writer.noted("trouble") == []


@pytest.mark.parametrize("calls", [Call.WRITE, Call.SYNC, Call.TRUNCATE])
def test_a_disk_that_fails_at_the_end_costs_only_what_was_not_acknowledged(
    disk: FaultyDisk, tmp_path: Path, calls: Call
) -> None:
    """A close that cannot tidy up still closes: the next start reads the log."""
    writer = SteadyWriter(tmp_path / "journal.db")
    with writer.running(disk.environment):
        writer.wait_for_more("kept", SOME)
        disk.arm(Fault.FAIL, calls)
    assert disk.injected
    disk.heal()
    keys = writer.check()

    assert not keys.intersection(writer.noted("refused"))


@pytest.mark.parametrize("calls", [Call.WRITE, Call.SYNC])
def test_a_kill_while_the_disk_fails_loses_nothing(
    disk: FaultyDisk, tmp_path: Path, calls: Call
) -> None:
    """The disk fills up, and then the operator's patience ends: the next start is a good one."""
    writer = SteadyWriter(tmp_path / "journal.db", "power")
    with writer.running(disk.environment) as process:
        writer.wait_for_more("kept", SOME)
        with disk.failing(Fault.TEAR, calls, error=errno.ENOSPC):
            writer.wait_for_more("refused", SOME)
            process.kill()
            assert process.wait() == -signal.SIGKILL
    with writer.running({}):
        writer.wait_for_more("kept", SOME)
    writer.check()


@pytest.mark.timeout(60 + 2 * DEATHS)
@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_death_in_the_middle_of_a_call_loses_nothing(
    disk: FaultyDisk, tmp_path: Path, durability: str
) -> None:
    """SIGKILL comes between two halves of a write as well as before a wait for the disk."""
    writer = SteadyWriter(tmp_path / "journal.db", durability)
    dice = random.Random(durability)  # noqa: S311 -- the same tree gets the same verdict
    for _ in range(DEATHS):
        # Without power cuts in mind, only a checkpoint waits for the disk: that is rare.
        calls, mean = dice.choice([(Call.WRITE, 80), (Call.GROW, 80), (Call.SYNC, 4)])
        disk.arm(Fault.KILL, calls, skip=int(dice.expovariate(1 / mean)))
        with writer.running(disk.environment) as process:
            assert process.wait(30) == -signal.SIGKILL
        assert disk.injected == 1
        disk.heal()
        writer.check()
    with writer.running({}):
        writer.wait_for_more("kept", SOME)

    assert len(writer.check()) > SOME


@pytest.mark.parametrize(
    ("calls", "error", "message"),
    [
        (Call.READ, errno.EIO, "cannot open journal.db: disk I/O error"),
        (Call.WRITE, errno.ENOSPC, "cannot open journal.db: disk I/O error"),
        (Call.CREATE, errno.ENOSPC, "cannot open journal.db: unable to open database file"),
    ],
)
def test_a_start_on_a_bad_disk_fails_and_changes_nothing(
    disk: FaultyDisk, tmp_path: Path, calls: Call, error: int, message: str
) -> None:
    """An unreadable disk is not a damaged file: it must not be put aside, with all that it holds."""
    writer = SteadyWriter(tmp_path / "journal.db")
    with writer.running({}) as process:
        writer.wait_for_more("kept", SOME)
        if calls is not Call.CREATE:  # after a good end there is no log, and it must be made
            process.kill()
            process.wait()
    with disk.failing(Fault.FAIL, calls, error=error):
        writer.fail_to_start(disk.environment)

    assert writer.noted("failed") == [message]
    with writer.running({}):
        writer.wait_for_more("kept", SOME)
    writer.check()


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC])
def test_a_damaged_file_that_cannot_be_put_aside_stops_the_start(
    disk: FaultyDisk, tmp_path: Path, error: int
) -> None:
    """A start without it would be one that forgot all tasks."""
    writer = SteadyWriter(tmp_path / "journal.db")
    writer.path.write_bytes(b"noise" * 1000)
    with disk.failing(Fault.FAIL, Call.RENAME, error=error):
        writer.fail_to_start(disk.environment)

    assert writer.noted("failed") == [f"cannot open journal.db: {os.strerror(error)}"]
    assert writer.path.read_bytes() == b"noise" * 1000


def test_a_full_file_system_is_survived(tmp_path: Path) -> None:
    """The same without our library: a real one of a megabyte, written to until it is full."""
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(b"\0" * 300_000)
        writer = SteadyWriter(folder / "journal.db")
        notes = tmp_path / "notes"
        writer.notes_file = notes
        with writer.running({}):
            writer.wait_for_more("refused", SOME)
            ballast.unlink()
            writer.wait_for_more("kept", 1)
        keys = writer.check()

    assert "disk is full" in writer.noted("trouble")[0]
    assert not keys.intersection(writer.noted("refused"))

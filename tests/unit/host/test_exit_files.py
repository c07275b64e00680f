"""The files of the last exit: whole or not at all, and believed only when checked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.exit_files import (
    MAX_FILE_BYTES,
    ExitFiles,
    read_boot_id,
    read_start_ticks,
    read_whole,
    write_whole,
)
from kagent_sdk.host.exit_identity import Identity, read_before
from kagent_sdk.host.oom import OomCount
from kagent_sdk.protocol.last_exit import (
    MAX_TASKS,
    MAX_TRACEBACK_CHARS,
    HostExit,
    LastExit,
    OpenTask,
    WorkerExit,
)
from kagent_sdk.redaction.redactor import Redactor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[ExitFiles]:
    """Return the files of an agent that has run."""
    (tmp_path / "runtime").mkdir()
    yield ExitFiles(tmp_path)
    assert not list((tmp_path / "runtime").glob("*.tmp"))


def test_what_is_written_is_read_again(files: ExitFiles) -> None:
    """By nobody but its owner: ids of tasks may tell more than their authors think."""
    last = LastExit(host=HostExit(cause="clean", how="stopped", at=NOW))
    files.write_last(last)

    assert files.read_last() == (last, "")
    assert stat.S_IMODE(files.last_exit.stat().st_mode) == 0o600


def test_the_largest_document_fits(files: ExitFiles) -> None:
    """The bound must never cut off what a host itself writes."""
    at = NOW
    tasks = tuple(OpenTask(id="x" * 128, capability="y" * 200, started_at=at) for _ in range(100))
    trace = "\x01" * MAX_TRACEBACK_CHARS
    how = "\x01" * 2000
    last = LastExit(
        host=HostExit(
            cause="x", how=how, at=at, traceback=trace, tasks=tasks, tasks_running=MAX_TASKS
        ),
        worker=WorkerExit(cause="x", how=how, at=at, traceback=trace, tasks=tasks),
    )
    files.write_last(last)

    assert files.read_last() == (last, "")


def test_without_files_nothing_is_known_and_nothing_wrong(files: ExitFiles) -> None:
    """The first start of all."""
    assert files.read_last() == (LastExit(), "")
    note = files.read_note()
    assert (note.content, note.seen_at, note.fault) == (None, None, "")


@given(content=st.binary(max_size=300))
def test_no_content_is_too_strange(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A torn file, or one that somebody else wrote."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "runtime").mkdir()
    files = ExitFiles(folder)
    files.last_exit.write_bytes(content)
    files.running.write_bytes(content)

    last, fault = files.read_last()
    assert last == LastExit()
    assert fault or content.strip().startswith(b"{")
    assert files.read_note().content is None


@pytest.mark.parametrize(
    "content",
    [
        b'{"host": {"cause": "clean\\u001b[2J", "how": "", "at": "2026-11-24T12:00:00Z"}}',
        b'{"host": {"cause": "clean", "how": "", "at": "yesterday"}}',
        b'{"host": {"cause": "clean", "how": "", "at": "2026-11-24T12:00:00"}}',
        b'{"worker": {"cause": "clean", "how": "", "at": 1e400}}',
        b'{"host": {"cause": "clean", "how": "", "at": "2026-11-24T12:00:00Z", "tasks": ['
        + b",".join([b'{"id": "a", "capability": "b"}'] * (MAX_TASKS + 1))
        + b"]}}",
        b"[" * 10_000,
    ],
)
def test_what_does_not_fit_is_refused_without_quoting_it(files: ExitFiles, content: bytes) -> None:
    """The log shows where the fault is, not what an attacker would like it to show."""
    files.last_exit.write_bytes(content)
    last, fault = files.read_last()

    assert last == LastExit()
    assert fault.startswith("malformed")
    assert len(fault) < 100


def test_a_file_over_the_bound_is_not_read(files: ExitFiles) -> None:
    """A terabyte of zeros must not become the host's memory."""
    with files.last_exit.open("wb") as file:
        file.truncate(1 << 40)

    assert files.read_last() == (LastExit(), f"over {MAX_FILE_BYTES} bytes")


def test_a_write_that_fails_leaves_the_old_file(files: ExitFiles, tmp_path: Path) -> None:
    """A disk that is full for a while must not cost what was known."""
    (tmp_path / "runtime" / "taken.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "runtime" / "taken.json", b"new")
    write_whole(files.running, b"old")

    assert read_whole(files.running)[0] == b"old"


def test_a_write_follows_no_link(files: ExitFiles, tmp_path: Path) -> None:
    """A worker that may write there must not choose what the host overwrites."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    files.last_exit.symlink_to(victim)
    files.last_exit.with_suffix(".tmp").symlink_to(victim)
    files.write_last(LastExit())

    assert victim.read_text() == "mine"
    assert not files.last_exit.is_symlink()


def test_no_time_of_a_file_is_too_strange(files: ExitFiles) -> None:
    """Any number can be the time of a file; tmpfs takes years beyond the calendar's."""
    files.running.write_bytes(b"x")
    for at_s in (-(1 << 40), 1 << 40, 1 << 60):
        os.utime(files.running, (at_s, at_s))

        assert files.read_note().seen_at is not None


def test_a_process_is_told_by_when_it_started() -> None:
    """Its number may be given to another one; a zombie runs no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        alive = read_start_ticks(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = read_start_ticks(child.pid)

    own = read_start_ticks(os.getpid())
    assert alive is not None
    assert own is not None
    assert own < alive
    assert zombie is None
    assert read_start_ticks(child.pid) is None
    assert len(read_boot_id()) == 36


def test_a_host_that_still_runs_is_not_judged(files: ExitFiles) -> None:
    """Only one that is another process than the reader, and of this boot."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        me = Identity.read()
        other = Identity(me.boot_id, read_start_ticks(child.pid))
        other.pid = child.pid
        files.write_note(other.note(NOW, OomCount("v2:1", 3), ()))
        alive = read_before(files, me, None)
        child.kill()
    dead = read_before(files, me, OomCount("v2:1", 4))

    assert alive.is_other_running
    assert alive.last == LastExit()
    assert not dead.is_other_running
    assert dead.last.host is not None
    assert dead.last.host.cause == "oom"
    assert not dead.is_written


def _quote(secret: str) -> None:
    raise LookupError(f"no {secret} here")


def test_the_end_of_a_host_holds_no_secret() -> None:
    """An exception's message may quote what it should not."""
    me = Identity.read()
    with pytest.raises(LookupError) as caught:
        _quote("hunter22")
    end = me.exit(NOW, caught.value, "", Redactor({"key": "hunter22"}))

    assert end.how == "no ***key*** here"
    assert end.traceback is not None
    assert "LookupError: no ***key*** here" in end.traceback
    assert "hunter22" not in end.model_dump_json()

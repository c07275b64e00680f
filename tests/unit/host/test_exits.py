"""The recording thread: nobody waits for it, whatever the disk does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.host.exit_files import ExitFiles
from kagent_sdk.host.exits import Exits
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.place import Remains


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[LogPump]:
    """Return a pump that runs."""
    pump = LogPump(tmp_path / "logs" / "runtime.log", agent="a", config=LogsConfig(tee="none"))
    pump.start()
    yield pump
    pump.close(5)


@pytest.fixture
def exits(tmp_path: Path, pump: LogPump) -> Exits:
    """Return the record of a host without workers."""
    (tmp_path / "runtime").mkdir()
    return Exits(tmp_path, pump=pump, places=list, started_at=time.time())


def logged(folder: Path, pump: LogPump) -> list[str]:
    """Return the events in the log, once all of them are written."""
    pump.close(5)
    lines = (folder / "logs" / "runtime.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_a_disk_that_stands_still_does_not_hold_up_the_exit(
    exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator kills what does not end in time; then more is lost than this."""
    stuck, goes_on = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        stuck.set()
        goes_on.wait(60)

    monkeypatch.setattr(ExitFiles, "write_last", hang)
    exits.start()
    exits.wait_read(20)
    began_s = time.monotonic()
    exits.end(None, within_s=0.2)
    took_s = time.monotonic() - began_s
    assert stuck.wait(20)
    goes_on.set()
    exits._thread.join(20)

    assert took_s < 10
    assert not exits._thread.is_alive()


def test_an_agent_without_a_thread_to_spare_runs_without_a_record(
    exits: Exits, pump: LogPump, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A limit on processes that is too low is reported, and is no reason to end."""

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(exits._thread, "start", refuse)
    exits.start()
    exits.wait_read(20)
    exits.end(None, within_s=5)

    assert logged(tmp_path, pump) == ["exits_not_recorded"]


def test_a_bug_in_the_record_ends_the_record_alone(
    exits: Exits, pump: LogPump, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What tells of crashes must not cause one."""

    def fail(_: ExitFiles) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(ExitFiles, "read_note", fail)
    exits.start()
    exits._thread.join(20)
    exits.end(None, within_s=5)

    assert logged(tmp_path, pump) == ["exits_not_recorded"]


def test_a_full_disk_is_reported_once_and_written_to_when_it_has_room(
    exits: Exits, pump: LogPump, tmp_path: Path
) -> None:
    """The agent serves on; what was not written is written later."""
    runtime = tmp_path / "runtime"
    runtime.rmdir()
    exits.start()
    exits.wait_read(20)
    for _ in range(3):
        exits.examine(remains())
    while (tmp_path / "logs" / "runtime.log").read_text().count("exit_not_written") < 2:
        time.sleep(0.01)
    runtime.mkdir()
    exits.examine(remains())
    while not (runtime / "running.json").exists():
        time.sleep(0.01)
    exits.note_stop("SIGTERM")
    exits.end(None, within_s=20)

    once = ["exit_not_written", "exit_written_again"]
    assert sorted(logged(tmp_path, pump)) == sorted(2 * once)  # for each of the two files
    last, _ = ExitFiles(tmp_path).read_last()
    assert last.worker == exits.worker
    assert last.host is not None
    assert last.host.how == "stopped: SIGTERM"
    assert not (runtime / "running.json").exists()


def test_a_note_that_somebody_removed_is_written_again(
    exits: Exits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is cleaned up at run time must not make the host forget."""
    monkeypatch.setattr("kagent_sdk.host.exits.INTERVAL_S", 0.01)
    note = tmp_path / "runtime" / "running.json"
    exits.start()
    for _ in range(2):
        while not note.exists():
            time.sleep(0.01)
        note.unlink()
    exits.end(None, within_s=20)

    assert not note.exists()


def remains() -> Remains:
    """Return what is left of a worker that ended at once."""
    return Remains(
        worker=0,
        pid=2**22,
        returncode=1,
        how="exit code 1",
        kill_reason=None,
        was_asked=False,
        ready_s=None,
        stack=None,
        tail="Traceback (most recent call last):\nValueError: no\n",
        tasks=(),
    )


def test_the_end_of_a_worker_is_known_before_the_record_is_open(exits: Exits) -> None:
    """A worker may fail while the host still comes up."""
    found = exits.examine(remains())

    assert (found.cause, found.rss_bytes, found.ready_s) == ("exception", None, None)
    assert found.traceback == "Traceback (most recent call last):\nValueError: no\n"
    assert exits.worker == found

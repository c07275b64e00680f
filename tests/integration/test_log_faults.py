"""The log when the disk, the folder or the terminal fails: the agent serves on and says so."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_chatterbox
from tests.integration.log_files import events, mounted_tmpfs, read_log
from tests.integration.vitals import answered_probes
from tests.integration.waiting import wait_until

LIVE = frozenset({200})
SPAM = 3000


@pytest.fixture
def chatterbox(tmp_path: Path) -> Path:
    """Return a fresh copy of the agent that prints."""
    return copy_chatterbox(tmp_path)


def logs(agent: RunningAgent) -> dict[str, Any]:
    """Return what ``/status`` says of the log."""
    found = agent.status()["logs"]
    assert isinstance(found, dict)
    return found


def spam_of(folder: Path) -> list[str]:
    """Return the numbered lines of the log."""
    return [event for event in events(folder) if event.startswith("spam")]


def test_a_full_disk_costs_lines_and_nothing_else(chatterbox: Path) -> None:
    """The worker never waits for it, what is lost is counted, and it is told when there is room."""
    with mounted_tmpfs(chatterbox / "logs", "size=1m") as folder:
        filler = folder / "filler"
        with running_agent(chatterbox) as agent, answered_probes(agent, LIVE):
            _fill(filler, leave_bytes=64 * 1024)
            agent.call("spam", {"lines": SPAM})
            assert agent.call("echo", {"text": "served"}) == "served"
            wait_until(lambda: logs(agent)["lost_lines"] > 0)
            assert logs(agent)["last_error"] == os.strerror(errno.ENOSPC)

            filler.unlink()
            wait_until(lambda: "log_lines_lost" in (folder / "runtime.log").read_text())
            agent.call("say", {"text": "there is room again\n"})
        records = read_log(chatterbox)
        spam = spam_of(chatterbox)

    told = [record for record in records if record["event"] == "log_lines_lost"]
    assert all(record["reason"] == os.strerror(errno.ENOSPC) for record in told)
    assert sum(record["lines"] for record in told) + len(spam) >= SPAM
    assert len(set(spam)) == len(spam)
    assert "there is room again" in [record["event"] for record in records]


def _fill(path: Path, leave_bytes: int) -> None:
    """Take up all space but so much; proves that the disk is full without that."""

    def write_for_ever() -> None:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_for_ever()
    os.truncate(path, path.stat().st_size - leave_bytes)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_log_that_was_removed_is_made_anew(chatterbox: Path, what: str) -> None:
    """Somebody cleaned up; the lines from then on are there."""
    folder = chatterbox / "logs"
    with running_agent(chatterbox) as agent:
        (folder / "runtime.log").unlink() if what == "file" else shutil.rmtree(folder)
        agent.call("spam", {"lines": SPAM})
        wait_until((folder / "runtime.log").exists)
        assert logs(agent)["lost_lines"] == 0

    assert len(spam_of(chatterbox)) == SPAM


def test_a_folder_that_becomes_read_only_is_told_and_costs_nothing(chatterbox: Path) -> None:
    """The file that is open goes on until another can be made."""
    folder = chatterbox / "logs"
    with running_agent(chatterbox) as agent, answered_probes(agent, LIVE):
        with mounted_tmpfs(folder, "ro"):
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                (folder / "probe").touch()
            os.kill(agent.pid, signal.SIGUSR1)
            agent.call("spam", {"lines": SPAM})
            wait_until(lambda: logs(agent)["last_error"] == os.strerror(errno.EROFS))
            assert logs(agent)["lost_lines"] == 0
        agent.call("say", {"text": "it can be written again\n"})

    assert len(spam_of(chatterbox)) == SPAM
    assert "it can be written again" in events(chatterbox)


def test_a_stdout_that_nobody_reads_holds_up_nothing(chatterbox: Path) -> None:
    """The file has every line; stdout lacks some, and says how many as soon as it is read."""
    read, write = os.pipe()
    lines, size = 3000, 3000
    shown: list[bytes] = []

    def drain() -> None:
        while data := os.read(read, 65536):
            shown.append(data)

    reader = threading.Thread(target=drain)
    try:
        with (
            running_agent(chatterbox, stdout=write) as agent,
            answered_probes(agent, LIVE),
        ):
            os.close(write)
            agent.call("spam", {"lines": lines, "size": size}, timeout_s=110)
            assert agent.call("echo", {"text": "served"}) == "served"
            wait_until(lambda: logs(agent)["tee_lost_lines"] > 0)

            reader.start()
            wait_until(lambda: b'"tee_lines_lost"' in b"".join(shown[-10:]), 60.0)
            lost = logs(agent)["tee_lost_lines"]
    finally:
        if reader.ident is not None:
            reader.join()
        os.close(read)
    kept = [json.loads(line)["event"] for line in b"".join(shown).splitlines()]
    told = [record for record in read_log(chatterbox) if record["event"] == "tee_lines_lost"]

    assert len(spam_of(chatterbox)) == lines
    assert sum(record["lines"] for record in told) == lost
    assert len([event for event in kept if event.startswith("spam")]) >= lines - lost


def test_an_agent_whose_stdout_stands_still_ends_in_time(chatterbox: Path) -> None:
    """A terminal that was stopped must not hold up the shutdown."""
    read, write = os.pipe()
    with running_agent(chatterbox, stdout=write) as agent:
        os.close(write)
        agent.call("spam", {"lines": 1000, "size": 3000})

        assert agent.stop(deadline_s=20) == 0
    os.close(read)

    assert events(chatterbox)[-1] == "host_stopped"


def test_an_agent_outlives_the_reader_of_its_stdout(chatterbox: Path) -> None:
    """``kos-agent run | head -1``: the pipe is gone, the agent is not."""
    read, write = os.pipe()
    with running_agent(chatterbox, stdout=write) as agent:
        os.close(write)
        os.close(read)
        agent.call("spam", {"lines": SPAM})
        wait_until(lambda: logs(agent)["last_error"] == os.strerror(errno.EPIPE))

    assert len(spam_of(chatterbox)) == SPAM
    assert "tee_failed" in events(chatterbox)

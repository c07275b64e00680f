"""All of the worker's output reaches the log: killed, crashed, through every door, in one piece."""

from __future__ import annotations

import functools
import os
import pty
import re
import signal
import struct
from collections import defaultdict
from pathlib import Path

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_chatterbox
from tests.integration.log_files import events, read_log
from tests.integration.waiting import wait_until

NUMBERED = re.compile(r"w(\d+) e(\d+) n(\d{8}) (x*)")
RECORD_BYTES = 200
WRITERS = 12


@pytest.fixture
def chatterbox(tmp_path: Path) -> Path:
    """Return a fresh copy of the agent that prints."""
    return copy_chatterbox(tmp_path)


def counted(folder: Path) -> dict[tuple[int, int], int]:
    """Return how many lines each writer of each worker's life has completely written."""
    found: dict[tuple[int, int], int] = {}
    for path in folder.glob("runtime/data/epoch-*/w*"):
        data = path.read_bytes()
        epoch = int(path.parent.name.removeprefix("epoch-"))
        found[int(path.name[1:]), epoch] = struct.unpack("<Q", data)[0] if data else 0
    return found


@pytest.mark.parametrize(
    ("lines", "kills"),
    [
        (50_000, 3),
        pytest.param(1_000_000, 10, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_no_line_is_lost_torn_or_told_twice(chatterbox: Path, lines: int, kills: int) -> None:
    """Four processes and eight threads print while the worker is killed and the file rotates.

    What nobody can know is whether the line under way at the kill was written: it may be there.
    """
    (chatterbox / "runtime" / "data").mkdir(parents=True)
    (chatterbox / "runtime" / "data" / "chatter").touch()
    env = {
        "AGENT_LOGS__MAX_FILE_BYTES": str(lines * RECORD_BYTES // 80),
        "AGENT_LOGS__KEEP_FILES": "1000",
        "AGENT_LOGS__TEE": "none",
        "AGENT_WORKER__CRASH_LIMIT": "1000",
        "AGENT_WORKER__BACKOFF_MAX_S": "0.1",
    }
    with running_agent(chatterbox, env=env) as agent:
        for life in range(kills + 1):
            share = lines // (kills + 1) + 1
            wait_until(functools.partial(_is_written, chatterbox, life, share), 600.0)
            if life < kills:
                _kill_worker(agent, life)
        logs = agent.status()["logs"]
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for event in events(chatterbox):
        if match := NUMBERED.fullmatch(event):
            number = int(match[3])
            assert len(match[4]) == number % 64, event
            found[int(match[1]), int(match[2])].append(number)
        else:
            assert not re.search(r"\bn\d|xx", event), event

    written = counted(chatterbox)
    assert sum(written.values()) >= lines
    assert len(written) == WRITERS * (kills + 1)
    for writer, count in written.items():
        numbers = found[writer]
        assert numbers == list(range(len(numbers))), writer
        assert count <= len(numbers) <= count + 1, writer
    assert (logs["lost_lines"], logs["dropped_events"]) == (0, 0)
    assert logs["rotations"] >= 50


def _is_written(folder: Path, life: int, lines: int) -> bool:
    lives = [count for (_, epoch), count in counted(folder).items() if epoch == life]
    return len(lives) == WRITERS and min(lives) > 0 and sum(lives) >= lines


def _kill_worker(agent: RunningAgent, life: int) -> None:
    (pid,) = agent.worker_pids
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: agent.status()["workers"]["restarts"] == life + 1)
    crash = agent.status()["workers"]["last_crash"]
    assert crash["signal"] == "SIGKILL"


def test_every_door_leads_to_the_log(chatterbox: Path) -> None:
    """Subprocesses, C code and a native crash write past everything that Python could catch."""
    with running_agent(chatterbox, env={"AGENT_LOGS__MAX_LINE_BYTES": "500"}) as agent:
        agent.post("/v1/capabilities/shout")
        wait_until(lambda: agent.status()["workers"]["restarts"] == 1)
        tail = agent.status()["workers"]["last_crash"]["traceback"]
    records = read_log(chatterbox)
    by_event = {record["event"]: record for record in records}

    assert by_event["from a subprocess"]["stream"] == "stdout"
    assert by_event["and its stderr"]["stream"] == "stderr"
    assert by_event.keys() >= {"from C code", "last words"}
    assert "\\xff not UTF-8" in by_event
    assert by_event["z" * 500]["cut_bytes"] == 500
    assert by_event["json"]["stream"] == "stdout"
    assert by_event["json"]["worker_stream"] == "host"
    (crash,) = [record for record in records if "Segmentation fault" in record["event"]]
    assert "in shout" in crash.get("exception", crash["event"])
    assert "Segmentation fault" in tail


def test_a_traceback_is_one_record(chatterbox: Path) -> None:
    """With its last line as the event, and all of it beside."""
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nE: boom\n'
    with running_agent(chatterbox) as agent:
        agent.call("say", {"text": text, "error": True})
    (found,) = [record for record in read_log(chatterbox) if record["event"] == "E: boom"]

    assert (found["level"], found["stream"]) == ("error", "stderr")
    assert found["exception"] + "\n" == text


def test_an_outside_rotator_loses_no_line(chatterbox: Path) -> None:
    """It moves the file and sends SIGUSR1, again and again, while the worker prints."""
    log = chatterbox / "logs" / "runtime.log"
    with running_agent(chatterbox) as agent:
        for number in range(1, 6):
            agent.call("spam", {"lines": 500})
            log.rename(log.with_name(f"runtime.log.{6 - number}"))
            os.kill(agent.pid, signal.SIGUSR1)
            wait_until(log.exists)
            agent.call("spam", {"lines": 500})
        assert agent.status()["logs"]["rotations"] == 0
    spam = [event for event in events(chatterbox) if event.startswith("spam")]

    assert len(spam) == 5000
    assert sorted(spam) == sorted(line for line in set(spam) for _ in range(10))


def test_the_level_holds_for_the_host(chatterbox: Path) -> None:
    """What is printed is the author's to decide."""
    with running_agent(chatterbox, env={"AGENT_LOGS__LEVEL": "warning"}) as agent:
        agent.call("say", {"text": "printed\n"})
    told = events(chatterbox)

    assert "printed" in told
    assert "worker_ready" not in told


def test_a_container_sees_the_same_lines_on_stdout(chatterbox: Path) -> None:
    """What collects a container's output gets JSON lines, all of them."""
    with running_agent(chatterbox) as agent:
        agent.call("spam", {"lines": 2000})
        agent.stop()
        shown = agent.log_file.read_bytes()

    assert shown == (chatterbox / "logs" / "runtime.log").read_bytes()


@pytest.mark.parametrize("has_colour", [True, False])
def test_a_person_sees_text_on_a_terminal(chatterbox: Path, has_colour: bool) -> None:
    """And colours, unless NO_COLOR is set (https://no-color.org)."""
    master, terminal = pty.openpty()
    env = {"TERM": "xterm"} | ({} if has_colour else {"NO_COLOR": "1"})
    shown = b""
    with running_agent(chatterbox, env=env, stdout=terminal) as agent:
        os.close(terminal)
        agent.call("say", {"text": "printed\n"})
        agent.call("say", {"text": '{"level": "error", "event": "told"}\n'})
        while b"told" not in shown:
            shown += os.read(master, 65536)
    os.close(master)

    text = shown.decode().replace("\r\n", "\n")
    assert re.search(r"info +worker_ready", text)
    assert "\nprinted\n" in text
    assert ("\x1b[31m" in text) == has_colour
    assert '"event"' not in text

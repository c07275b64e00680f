"""The log pump by itself: real pipes, a real file, a real stdout."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config.models import LogsConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.logs.pump import MAX_WAITING_EVENTS, LogPump, WorkerOutput
from kagent_sdk.host.logs.reader import OutputReader
from kagent_sdk.host.logs.tee import QUEUE_BYTES, Tee
from kagent_sdk.redaction.redactor import Redactor
from tests.integration.waiting import wait_until

CLOSE_S = 20.0
SILENT = LogsConfig(tee="none")


@contextmanager
def pumping(path: Path, config: LogsConfig = SILENT) -> Iterator[LogPump]:
    """Run a pump until the end of the block."""
    pump = LogPump(path, agent="hello", config=config)
    pump.start()
    try:
        yield pump
    finally:
        pump.close(CLOSE_S)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def attach(pump: LogPump, on_end: Callable[[], None] | None = None) -> int:
    """Give the pump a new pipe; return the end to write to."""
    read, write = os.pipe()
    pump.attach(WorkerOutput(read, stream="stderr", pid=7, on_end=on_end))
    return write


def hear() -> tuple[list[tuple[str, dict[str, object]]], Callable[..., None]]:
    """Return what a tee tells, and what it tells it to."""
    told: list[tuple[str, dict[str, object]]] = []

    def tell(event: str, /, **values: object) -> None:
        told.append((event, values))

    return told, tell


def test_events_of_the_host_are_records(tmp_path: Path) -> None:
    """The log tells of the host and of the worker in one form."""
    path = tmp_path / "logs" / "runtime.log"
    with pumping(path) as pump:
        pump.log("info", "worker_ready", worker=0)
        pump.log("debug", "not_told")
        pump.log_exception("request_failed", ValueError("boom"), route="/x")
    ready, failed = read_records(path)

    assert ready["timestamp"].endswith("Z")
    assert {key: ready[key] for key in ("level", "event", "stream", "agent", "pid", "worker")} == {
        "level": "info",
        "event": "worker_ready",
        "stream": "host",
        "agent": "hello",
        "pid": os.getpid(),
        "worker": 0,
    }
    assert (failed["error"], failed["exception"]) == ("ValueError('boom')", "ValueError: boom\n")


def test_an_agent_that_cannot_log_does_not_start(tmp_path: Path) -> None:
    """At the start somebody is there to put it right."""
    (tmp_path / "logs").touch()
    pump = LogPump(tmp_path / "logs" / "runtime.log", agent="hello", config=SILENT)

    with pytest.raises(StartupError, match=r"cannot write the log .*runtime.log: File exists"):
        pump.start()


def test_a_moved_file_is_opened_anew_at_the_signal(tmp_path: Path) -> None:
    """Also while there is nothing to say: the rotator waits for the new file."""
    path = tmp_path / "runtime.log"
    with pumping(path) as pump:
        path.rename(tmp_path / "moved")
        pump.reopen()
        wait_until(path.exists)


def test_a_line_waits_only_shortly_for_those_that_may_belong_to_it(tmp_path: Path) -> None:
    """A person who follows the log sees a line though nothing comes behind it."""
    path = tmp_path / "runtime.log"
    with pumping(path) as pump:
        write = attach(pump)
        os.write(write, b"one line\n")
        wait_until(lambda: b"one line" in path.read_bytes())
        os.close(write)


def test_all_that_was_written_is_read_at_the_end(tmp_path: Path) -> None:
    """A pipe that is still open holds up nothing, and what is in it is not lost."""
    path = tmp_path / "runtime.log"
    ended = threading.Event()
    with pumping(path) as pump:
        writes = [attach(pump), attach(pump, ended.set)]
        os.write(writes[0], b"first\nhead\n  more\nlast without an end")
        os.write(writes[1], b"traceback of a worker that died\n")
        os.close(writes.pop())
    os.close(writes.pop())
    events = [record["event"] for record in read_records(path)]

    assert sorted(events) == [
        "first", "head\n  more", "last without an end", "traceback of a worker that died"
    ]  # fmt: skip
    assert ended.is_set()


def test_no_secret_of_the_host_leaves(tmp_path: Path) -> None:
    """An error's text may quote the very request that had it; JSON stays JSON."""
    path = tmp_path / "runtime.log"
    with pumping(path) as pump:
        pump.redactor = Redactor({"key": "hunter2-hunter2", "odd": '"level":"'})
        pump.log("info", "told", detail="with hunter2-hunter2 in it")
    told, *_ = read_records(path)

    assert "hunter2" not in path.read_text()
    assert "***key***" in told["event"]
    assert told["stream"] == "host"


def test_events_that_come_too_fast_are_counted(tmp_path: Path) -> None:
    """The host's loop never waits for the disk, so there is an end to what can wait."""
    path = tmp_path / "runtime.log"
    pump = LogPump(path, agent="hello", config=SILENT)
    for number in range(MAX_WAITING_EVENTS + 3):
        pump.log("info", "told", number=number)
    pump.start()
    pump.close(CLOSE_S)
    *told, dropped = read_records(path)

    assert [record["number"] for record in told] == list(range(MAX_WAITING_EVENTS))
    assert (dropped["event"], dropped["count"]) == ("log_events_dropped", 3)
    assert pump.statistics().dropped_events == 3


def test_a_mistake_of_ours_does_not_stop_the_pump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the thread that reads, a worker would stand still at its next line."""
    path = tmp_path / "runtime.log"

    def fail(*_: object) -> None:
        raise RuntimeError("a mistake")

    with pumping(path) as pump:
        write = attach(pump)
        with monkeypatch.context() as patch:
            patch.setattr(OutputReader, "_read", fail)
            os.write(write, b"lost\n")
            wait_until(lambda: b"log_pump_failed" in path.read_bytes())
        os.write(write, b"told\n")
        os.close(write)
        wait_until(lambda: b'"told"' in path.read_bytes())


def test_a_tee_that_stands_still_drops_and_says_so_when_it_flows() -> None:
    """Somebody stopped the terminal with Ctrl-S and went home."""
    read, write = os.pipe()
    told, tell = hear()
    tee = Tee(write, render=None, tell=tell)
    tee.start()
    line = b"x" * 9999 + b"\n"
    offered = QUEUE_BYTES // len(line) + 50
    for _ in range(offered):
        tee.offer(line, 1)
    assert tee.lost_lines > 0

    kept = (offered - tee.lost_lines) * len(line)
    while kept:
        kept -= len(os.read(read, 65536))
    wait_until(lambda: bool(told))
    tee.offer(line, 1)
    assert os.read(read, 65536)
    tee.close(CLOSE_S)
    os.close(write)
    os.close(read)

    assert told == [("tee_lines_lost", {"lines": tee.lost_lines})]


def test_a_tee_without_a_reader_gives_up_and_says_so() -> None:
    """``kos-agent run | head`` leaves an agent behind that runs on."""
    read, write = os.pipe()
    os.close(read)
    told, tell = hear()
    tee = Tee(write, render=None, tell=tell)
    tee.start()
    tee.offer(b"line\n", 1)
    wait_until(lambda: bool(told))
    tee.offer(b"line\n", 1)
    tee.close(CLOSE_S)
    os.close(write)

    assert told == [("tee_failed", {"error": "Broken pipe"})]
    assert tee.lost_lines == 2


def test_a_tee_waits_for_a_descriptor_that_must_not_block() -> None:
    """Another program may have made the terminal so: it is shared."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    tee = Tee(write, render=bytes.upper, tell=hear()[1])
    tee.start()
    tee.offer(b"line\n" * 100_000, 100_000)
    shown = b""
    while len(shown) < 500_000:
        shown += os.read(read, 65536)
    tee.close(CLOSE_S)
    os.close(write)
    os.close(read)

    assert shown == b"LINE\n" * 100_000

"""The host tells systemd or podman how it is."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.host.health import Health, Reason
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.sd_notify import ServiceManager, find_service_manager
from tests.agents import running_agent, start_agent
from tests.integration.programs import read_facts, write_program_agent
from tests.integration.waiting import wait_until

WELL = Health(live=True, live_detail="", ready=True, reason=None, detail="")


class FakeManager:
    """What systemd is for this: a socket that keeps every datagram with the time that it came."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self._said: list[tuple[float, str]] = []

    def said(self) -> list[tuple[float, str]]:
        """Return all that was said until now, line by line."""
        while True:
            try:
                datagram = self.socket.recv(8192).decode()
            except BlockingIOError:
                return list(self._said)
            self._said.extend((time.monotonic(), line) for line in datagram.split("\n"))

    def heard(self, line: str) -> bool:
        """Tell whether a line was said."""
        return any(said == line for _, said in self.said())

    def count(self, line: str) -> int:
        """Return how often a line was said."""
        return sum(said == line for _, said in self.said())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FakeManager]:
    """A service manager that listens on a path."""
    fake = FakeManager(str(tmp_path / "manager"))
    yield fake
    fake.socket.close()


def notify_env(manager: FakeManager, **more: str) -> dict[str, str]:
    """Return the environment that makes the host speak to it."""
    return {"NOTIFY_SOCKET": manager.socket.getsockname(), **more}


def test_systemd_hears_when_the_agent_is_ready_and_when_it_stops(
    tmp_path: Path, manager: FakeManager
) -> None:
    """`systemctl start` returns when requests can come, and units that depend on it follow."""
    folder = write_program_agent(tmp_path, "wait:go", "say:READY=1")
    agent = start_agent(folder, env=notify_env(manager))
    try:
        wait_until(lambda: manager.heard("STATUS=not ready: starting"))
        assert not manager.heard("READY=1")
        (folder / "go").touch()
        agent.wait_ready()
        wait_until(lambda: manager.heard("READY=1"))
        wait_until(lambda: manager.heard("STATUS=ready"))
        assert agent.stop() == 0

        lines = [line for _, line in manager.said()]
        assert lines.count("READY=1") == 1
        assert lines.count("STOPPING=1") == 1
        assert lines.index("READY=1") < lines.index("STOPPING=1")
        assert not any(line.startswith("WATCHDOG") for line in lines)  # nobody watches
    finally:
        agent.kill()


def test_our_own_worker_hears_nothing_of_the_service_manager(
    subject: Path, manager: FakeManager
) -> None:
    """A library in the author's code that speaks sd_notify must not speak for the host."""
    with running_agent(subject, env=notify_env(manager, WATCHDOG_USEC="30000000")) as agent:
        (pid,) = agent.worker_pids
        environ = (Path("/proc") / str(pid) / "environ").read_bytes()

        assert b"NOTIFY_SOCKET" not in environ
        assert b"WATCHDOG_USEC" not in environ
        wait_until(lambda: manager.heard("READY=1"))
        wait_until(lambda: manager.heard("WATCHDOG=1"))


def test_beats_end_while_the_agent_is_dead(tmp_path: Path, manager: FakeManager) -> None:
    """Systemd restarts what /healthz calls dead, and nothing else."""
    folder = write_program_agent(
        tmp_path,
        "wait-gone:mute",
        "beat",
        "say:READY=1",
        worker={"watchdog_s": 0.5, "crash_limit": 50},
        health={"stall_warn_s": 0.5, "stall_fail_s": 1},
    )
    with running_agent(folder, env=notify_env(manager, WATCHDOG_USEC="200000")) as agent:
        wait_until(lambda: manager.count("WATCHDOG=1") > 5)
        (folder / "mute").touch()  # its successors will not be ready
        os.kill(read_facts(folder)["pid"], signal.SIGUSR1)
        wait_until(lambda: agent.get("/healthz").status == 503)
        wait_until(lambda: manager.heard("STATUS=stuck: stalled"))
        beats = manager.count("WATCHDOG=1")
        until = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > until)
        assert agent.get("/healthz").status == 503  # for ten beats

        assert manager.count("WATCHDOG=1") == beats
        (folder / "mute").unlink()
        wait_until(lambda: manager.count("WATCHDOG=1") > beats)
        assert agent.get("/healthz").status == 200


def test_an_abstract_address_is_spoken_to(tmp_path: Path) -> None:
    """Podman and containers often use one."""
    name = f"kagent-test-{os.getpid()}"
    fake = FakeManager(f"\0{name}")
    try:
        folder = write_program_agent(tmp_path, "say:READY=1")
        with running_agent(folder, env={"NOTIFY_SOCKET": f"@{name}"}):
            wait_until(lambda: fake.heard("READY=1"))
    finally:
        fake.socket.close()


@pytest.mark.parametrize("address", ["/nowhere/at/all", "vsock:2:1"])
def test_a_service_manager_that_is_not_there_is_told_of_once(tmp_path: Path, address: str) -> None:
    """It must not keep the agent from serving, nor fill its log."""
    folder = write_program_agent(tmp_path, "say:READY=1")
    with running_agent(folder, env={"NOTIFY_SOCKET": address}) as agent:
        wait_until(lambda: "service_manager_" in agent.log_text)
        assert agent.stop() == 0

        wait_until(lambda: agent.log_text.count("service_manager_") == 1)


class Log:
    """Keeps the events of the host."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def log(self, level: str, event: str, **values: Any) -> None:
        """Keep the event."""
        self.events.append(event)


async def test_what_could_not_be_sent_is_sent_later(manager: FakeManager) -> None:
    """READY=1 that is lost would let systemd kill a healthy agent after its start timeout."""
    health = [WELL]
    speaker = ServiceManager(
        manager.socket.getsockname(),
        watchdog_s=None,
        pump=Log(),  # type: ignore[arg-type]
        lifecycle=Lifecycle(0),
        health=lambda: health[0],
    )
    while speaker._send({"X": "1"}):
        pass  # until its queue is full: the manager is busy
    speaker._look(0.25)
    assert manager.count("READY=1") == 0
    speaker._look(0.25)
    health[0] = Health(live=True, live_detail="", ready=False, reason=Reason.FULL, detail="")
    speaker._look(0.25)

    assert manager.count("READY=1") == 1
    assert manager.heard("STATUS=not ready: full")
    speaker._socket.close()


async def test_a_reload_is_told_from_its_begin_to_its_end(manager: FakeManager) -> None:
    """``Type=notify-reload`` waits for both, and compares the clock."""
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    speaker = find_service_manager(
        {"NOTIFY_SOCKET": manager.socket.getsockname()},
        pump=Log(),  # type: ignore[arg-type]
        lifecycle=Lifecycle(0),
        health=lambda: WELL,
    )
    assert speaker is not None
    speaker._look(0.25)
    speaker.reloading()
    speaker.reloaded()

    lines = [line for _, line in manager.said()]
    assert lines[-3] == "RELOADING=1"
    assert int(lines[-2].removeprefix("MONOTONIC_USEC=")) >= before_us
    assert lines[-1] == "READY=1"
    assert lines.count("READY=1") == 2
    speaker._socket.close()

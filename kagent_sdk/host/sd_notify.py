"""The host's own word to a service manager: systemd (``Type=notify``) or podman (``--sdnotify``).

It never waits: what cannot be sent now is sent with the next look, and a service manager that is
gone costs one line in the log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

from kagent_sdk.host.health import Health
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.protocol.notify import read_address, read_watchdog_s, write_notification

LOOK_S = 0.25
READY = "READY"
STATUS = "STATUS"


class ServiceManager:
    """Tells a service manager of the agent's state, and that it is alive.

    Args:
        address: where it listens; a path, or an abstract name with its zero byte.
        watchdog_s: the longest silence that it allows; None when it does not watch.
        pump: told when it cannot be reached.
        lifecycle: the agent's.
        health: what the probes answer now.
    """

    def __init__(
        self,
        address: str,
        *,
        watchdog_s: float | None,
        pump: LogPump,
        lifecycle: Lifecycle,
        health: Callable[[], Health],
    ) -> None:
        self._address = address
        self._beat_s = None if watchdog_s is None else watchdog_s / 2
        self._pump = pump
        self._lifecycle = lifecycle
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self._told: dict[str, str] = {}
        self._beat_at_s: float | None = None
        self._has_failed = False

    async def run(self) -> None:
        """Tell what changes until cancelled; then that the agent stops, if nobody did before."""
        pause_s = LOOK_S if self._beat_s is None else min(LOOK_S, self._beat_s)
        try:
            while True:
                self._look(pause_s)
                await asyncio.sleep(pause_s)
        finally:
            self.stopping()
            self._socket.close()

    def stopping(self) -> None:
        """Say that the agent stops; once."""
        if "STOPPING" not in self._told:
            self._tell({"STOPPING": "1", STATUS: str(self._lifecycle.state)})

    def reloading(self) -> None:
        """Say that a reload begins; `reloaded` must follow (``Type=notify-reload``)."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell({"RELOADING": "1", "MONOTONIC_USEC": str(now_us)})

    def reloaded(self) -> None:
        """Say that a reload is over, whatever came of it."""
        self._told.pop(READY, None)  # not delivered now, it is said with the next look
        self._tell({READY: "1"})

    def _look(self, pause_s: float) -> None:
        health = self._health()
        news = {STATUS: self._describe(health)}
        if health.ready:
            news[READY] = "1"
        self._tell({name: value for name, value in news.items() if self._told.get(name) != value})
        now_s = self._loop.time()
        if self._is_beat_due(now_s + pause_s) and health.live and self._send({"WATCHDOG": "1"}):
            self._beat_at_s = now_s

    def _is_beat_due(self, next_look_s: float) -> bool:
        if self._beat_s is None:
            return False
        return self._beat_at_s is None or next_look_s > self._beat_at_s + self._beat_s

    def _describe(self, health: Health) -> str:
        if "STOPPING" in self._told or health.reason is None:
            return str(self._lifecycle.state) if self._lifecycle.is_ending else "ready"
        return f"not ready: {health.reason}" if health.live else f"stuck: {health.reason}"

    def _tell(self, news: Mapping[str, str]) -> None:
        if news and self._send(news):
            self._told.update(news)

    def _send(self, news: Mapping[str, str]) -> bool:
        try:
            self._socket.sendto(write_notification(news), self._address)
        except OSError as exc:
            if not self._has_failed:
                self._has_failed = True
                self._pump.log("warning", "service_manager_not_told", error=str(exc))
            return False
        return True


def find_service_manager(
    environ: Mapping[str, str],
    *,
    pump: LogPump,
    lifecycle: Lifecycle,
    health: Callable[[], Health],
) -> ServiceManager | None:
    """Return the service manager that the environment names, if there is one that we can speak to."""
    address = read_address(environ.get("NOTIFY_SOCKET"))
    if address is None:
        pump.log("warning", "service_manager_unknown", address=environ.get("NOTIFY_SOCKET"))
        return None
    watchdog_s = read_watchdog_s(
        environ.get("WATCHDOG_USEC"), environ.get("WATCHDOG_PID"), os.getpid()
    )
    return ServiceManager(
        address, watchdog_s=watchdog_s, pump=pump, lifecycle=lifecycle, health=health
    )

"""The worker's life on a socket: hello, start-up, tasks, loops, stop.

Usable in any process and event loop: signals and the end of the process are the business of
`kagent_sdk.worker.process` and `kagent_sdk.worker.bootstrap`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from enum import Enum

import kagent_sdk
from kagent_sdk.context import Flag
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import PROTOCOL_VERSION, Hello
from kagent_sdk.worker.desk import Desk
from kagent_sdk.worker.hooks import run_shutdown, run_startup
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.parts import AgentParts
from kagent_sdk.worker.pulse import Pulse
from kagent_sdk.worker.services import Services
from kagent_sdk.worker.tracebacks import print_exception

LOST_GRACE_S = 0.5
"""How long jobs may clean up when the host is gone: nobody is there to read what they say."""

LOOPS_SHARE = 0.5
"""The part of the time for stopping that loops and tasks may use up before ``on_shutdown``."""

CLOSE_GRACE_S = 1.0
"""How long the last frames may take, whatever ``on_shutdown`` has used up."""


class Ending(Enum):
    """Why a worker ended."""

    STOPPED = "stopped"
    STARTUP_FAILED = "startup_failed"
    HOST_GONE = "host_gone"
    PROTOCOL_BROKEN = "protocol_broken"


class Runtime:
    """Serve one host, once.

    Args:
        parts: what the author declared.
    """

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self._stopping = Flag()
        self._loops: list[LoopRunner] = []

    async def serve(self, sock: socket.socket) -> Ending:
        """Serve the host at the other end of ``sock`` until it says STOP or is gone.

        Takes over the socket and closes it. Jobs of the author's own are left running. When it is
        cancelled, tasks and loops are cancelled and the connection is cut.
        """
        loop = asyncio.get_running_loop()
        desk = Desk(self._parts.capabilities, loop)
        await loop.create_unix_connection(lambda: desk.connection, sock=sock)
        life = loop.create_task(self._live(desk), name="worker life")
        try:
            await asyncio.wait([life, desk.connection.lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not life.done():
                await self._abandon(desk, life)
        if life.cancelled():
            return _why_lost(desk)
        return life.result()

    async def _live(self, desk: Desk) -> Ending:
        desk.connection.send(Kind.HELLO, 0, self._hello().model_dump_json().encode())
        services = await desk.services
        if not await self._start_up(desk):
            return Ending.STOPPED if desk.stop.done() else Ending.STARTUP_FAILED
        self._loops = [LoopRunner(part, services, self._stopping) for part in self._parts.loops]
        for runner in self._loops:
            runner.start()
        desk.connection.send(Kind.READY, 0)
        pulse = Pulse(services, self._loops, desk.heartbeat_s)
        pulse.start()
        try:
            await self._shut_down(services, await desk.stop)
        finally:
            pulse.close()
        await _close(desk)
        return Ending.STOPPED

    async def _start_up(self, desk: Desk) -> bool:
        """Run ``on_startup``; return whether it succeeded before a STOP came."""
        job = asyncio.get_running_loop().create_task(
            run_startup(self._parts.on_startup), name="on_startup"
        )
        try:
            await asyncio.wait([job, desk.stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            job.cancel()
        failure = await job
        return False

    async def _shut_down(self, services: Services, seconds: float) -> None:
        ...

    def _hello(self) -> Hello:
        parts = self._parts
        return Hello(
            protocol=PROTOCOL_VERSION,
            sdk_version=kagent_sdk.__version__,
            python_version=platform.python_version(),
            pid=os.getpid(),
            agent_name=parts.name,
            agent_version=parts.version,
            capabilities=tuple(capability.manifest() for capability in parts.capabilities),
            loops=tuple(loop.name for loop in parts.loops),
        )

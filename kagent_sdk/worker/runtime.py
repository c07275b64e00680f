"""The worker's life on a socket: hello, start-up, tasks, loops, stop.

Usable in any process and event loop: signals and the end of the process are the business of
`kagent_sdk.worker.process` and `kagent_sdk.worker.bootstrap`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from kagent_sdk import __version__
from kagent_sdk.context import Flag
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import PROTOCOL_VERSION, Hello
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.hooks import run_shutdown, run_startup
from kagent_sdk.worker.inbox import Inbox
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.parts import AgentParts
from kagent_sdk.worker.pulse import Pulse
from kagent_sdk.worker.record_writer import write_message
from kagent_sdk.worker.secret_changes import SecretChanges
from kagent_sdk.worker.services import Services
from kagent_sdk.worker.tracebacks import format_fatal

LOST_GRACE_S = 0.5
"""How long jobs may clean up when the host is gone: nobody is there to read what they say."""

LOOPS_SHARE = 0.5
"""The part of the time for stopping that loops and tasks may use up before ``on_shutdown``."""

RETIRED_LOOP_GRACE_S = 60.0
"""How long a sync loop that is at work when its worker retires may take to see the flag."""

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

    Attributes:
        parts: the same.
        services: what tasks and loops share, from WELCOME on.
        failure: what an ``on_startup`` function raised, if one did.
        loops: the author's, once the agent is up.
    """

    def __init__(self, parts: AgentParts) -> None:
        self.parts = parts
        self.services: Services | None = None
        self.failure: BaseException | None = None
        self._stopping = Flag()
        self.loops: list[LoopRunner] = []
        self._retirements: list[asyncio.Task[None]] = []

    async def serve(self, sock: socket.socket) -> Ending:
        """Serve the host at the other end of ``sock`` until it says STOP or is gone.

        Takes over the socket and closes it. Jobs of the author's own are left running. When it is
        cancelled, tasks and loops are cancelled and the connection is cut.
        """

        async def connect(connection: Connection) -> None:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: connection, sock=sock)

        return await self.serve_over(connect)

    async def serve_over(self, connect: Callable[[Connection], Awaitable[None]]) -> Ending:
        """Do as `serve` does over whatever stream ``connect`` gives the connection."""
        loop = asyncio.get_running_loop()
        inbox = Inbox(self.parts.capabilities, loop)
        connection = inbox.connection
        await connect(connection)
        life = loop.create_task(self._live(inbox), name="worker life")
        try:
            await _first(life, connection.lost)
            if not life.done():
                return _why_lost(connection)
            connection.close()
            await asyncio.wait([connection.lost], timeout=CLOSE_GRACE_S)
            return life.result()
        finally:
            life.cancel()
            connection.abort()
            if inbox.services is not None:
                inbox.services.state.close()
                await self._cancel_all(inbox.services, LOST_GRACE_S)
                inbox.services.threads.close()

    async def _live(self, inbox: Inbox) -> Ending:
        inbox.connection.send(Kind.HELLO, 0, make_hello(self.parts).model_dump_json().encode())
        welcome = await inbox.welcome
        self.services = services = inbox.services
        assert services is not None
        self.parts.state.requests = services.state
        changes = SecretChanges(self.parts.on_secrets_changed, services.secrets)
        inbox.on_secrets = changes.note
        ending = await self._start_up(inbox)
        if ending is not None:
            return ending
        self.loops = [LoopRunner(part, services, self._stopping) for part in self.parts.loops]
        for runner in self.loops:
            runner.start()
        inbox.retire.add_done_callback(lambda _: self._retire(services))
        inbox.connection.send(Kind.READY, 0)
        pulse = Pulse(services, self.loops, welcome.heartbeat_s)
        pulse.start()
        changes.start()
        try:
            await self._shut_down(services, await inbox.stop)
        finally:
            changes.close()
            pulse.close()
        return Ending.STOPPED

    async def _start_up(self, inbox: Inbox) -> Ending | None:
        """Run ``on_startup``; return None when the agent is up, else how it ended."""
        hooks = run_startup(self.parts.on_startup)
        job = asyncio.get_running_loop().create_task(hooks, name="on_startup")
        try:
            await _first(job, inbox.stop)
            if not job.done():
                job.cancel()
                await asyncio.wait([job], timeout=inbox.stop.result())
                return Ending.STOPPED
        finally:
            job.cancel()
        failure = job.result()
        self.failure = failure
        if failure is None:
            return None
        # As text: it ends the process, and the last lines of stderr are shown to people.
        sys.stderr.write(f"an on_startup function failed:\n{format_fatal(failure)}")
        return Ending.STARTUP_FAILED

    def _retire(self, services: Services) -> None:
        """Stop the loops: those of the worker that takes over run already. Tasks go on."""
        self._stopping.set()
        self._retirements = [
            services.loop.create_task(runner.aclose(RETIRED_LOOP_GRACE_S)) for runner in self.loops
        ]

    async def _shut_down(self, services: Services, seconds: float) -> None:
        clock = services.loop.time
        deadline_s = clock() + seconds
        await self._cancel_all(services, seconds * LOOPS_SHARE)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - clock())):
                await run_shutdown(reversed(self.parts.on_shutdown))
        except TimeoutError:
            write_message("warning", f"on_shutdown did not end within its {seconds:g} s")

    async def _cancel_all(self, services: Services, grace_s: float) -> None:
        """Cancel tasks and loops and give them ``grace_s`` to end."""
        self._stopping.set()
        for task in tuple(services.running.values()):
            task.cancel("shutdown")
        jobs = [task.job for task in services.running.values() if task.job is not None]
        jobs += [services.loop.create_task(runner.aclose(grace_s)) for runner in self.loops]
        jobs += self._retirements
        if jobs:
            await asyncio.wait(jobs, timeout=grace_s)


def make_hello(parts: AgentParts) -> Hello:
    """Return what the worker says first."""
    return Hello(
        protocol=PROTOCOL_VERSION,
        sdk_version=__version__,
        python_version=sys.version.split()[0],
        pid=os.getpid(),
        agent_name=parts.name,
        agent_version=parts.version,
        capabilities=tuple(capability.manifest() for capability in parts.capabilities),
        loops=tuple(loop.name for loop in parts.loops),
    )


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Return when one of them is done; none is cancelled."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _why_lost(connection: Connection) -> Ending:
    error = connection.lost.exception()
    if error is None:
        return Ending.HOST_GONE
    sys.stderr.write(f"the host broke the frame protocol: {error}\n")
    return Ending.PROTOCOL_BROKEN

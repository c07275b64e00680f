"""The worker as a process: the inherited socket, the event loop, the exit code."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from kagent_sdk.context import current_owner
from kagent_sdk.worker.environment import DEBUG_FD, WORKER_FD, WORKER_PID
from kagent_sdk.worker.output import installed_output
from kagent_sdk.worker.parts import AgentParts
from kagent_sdk.worker.runtime import Ending, Runtime
from kagent_sdk.worker.tracebacks import print_exception

EXIT_CODES = {
    Ending.STOPPED: 0,
    Ending.STARTUP_FAILED: 1,
    Ending.HOST_GONE: 1,
    Ending.PROTOCOL_BROKEN: 70,  # EX_SOFTWARE, sysexits.h
}

CLEANUP_S = 1.0
"""How long the author's own jobs may take to end after the agent has."""


def has_host() -> bool:
    """Tell whether this process was started by a host that still waits for its worker."""
    return WORKER_FD in os.environ


def is_used() -> bool:
    """Tell whether this process has served its host already."""
    return os.environ.get(WORKER_PID) == str(os.getpid())


def run_worker(parts: AgentParts, agent: object = None) -> None:
    """Serve the host that has started this process; return when it has said STOP.

    When the host is gone the process ends at once: nobody is left to wait for threads or
    ``atexit`` functions.

    Args:
        parts: what the author declared.
        agent: on what: for debug sessions.

    Raises:
        SystemExit: the agent did not start, or the host broke the protocol.
    """
    sock = _take_socket()
    output = installed_output()
    output.whose = current_owner
    ending = run_until_ended(_serve(Runtime(parts), sock, agent))
    code = EXIT_CODES[ending]
    if ending is Ending.HOST_GONE:
        with suppress(OSError, ValueError):
            output.finish()
        os._exit(code)
    if code:
        raise SystemExit(code)


async def _serve(runtime: Runtime, sock: socket.socket, agent: object) -> Ending:
    channel_fd = os.environ.pop(DEBUG_FD, None)
    if channel_fd is None:
        return await runtime.serve(sock)
    from kagent_sdk.worker.debugging import DebugReceiver  # noqa: PLC0415 - few agents are debugged
    from kagent_sdk.worker.inspection import WorkerInspection  # noqa: PLC0415

    inspection = WorkerInspection(agent, runtime, asyncio.get_running_loop())
    with DebugReceiver(int(channel_fd), inspection):
        return await runtime.serve(sock)


def run_until_ended(serving: Coroutine[Any, Any, Ending]) -> Ending:
    """Run an event loop until ``serving`` is done, then end the jobs that are left.

    A ``sys.exit()`` in a job that the author made leaves through the event loop: it is logged and
    the loop goes on, for a task must not end the worker.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        job = loop.create_task(serving, name="worker")
        while True:
            try:
                return loop.run_until_complete(job)
            except (SystemExit, KeyboardInterrupt) as exc:
                if job.done():
                    raise
                print_exception("a job wanted to end the process; it goes on:", exc)
    finally:
        _end_jobs(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _take_socket() -> socket.socket:
    sock = socket.socket(fileno=int(os.environ.pop(WORKER_FD)))
    os.environ[WORKER_PID] = str(os.getpid())
    sock.setblocking(False)  # noqa: FBT003 - the standard library's way
    # Neither a child that execs nor one that forks may hold the worker's end of the line: the
    # host would not see that the worker is gone.
    sock.set_inheritable(False)
    os.register_at_fork(after_in_child=sock.close)
    return sock


def _end_jobs(loop: asyncio.AbstractEventLoop) -> None:
    jobs = asyncio.all_tasks(loop)
    for job in jobs:
        job.cancel()
    with suppress(SystemExit, KeyboardInterrupt):
        if jobs:
            loop.run_until_complete(asyncio.wait(jobs, timeout=CLEANUP_S))
        loop.run_until_complete(_end_generators(loop))


async def _end_generators(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLEANUP_S):
            await loop.shutdown_asyncgens()

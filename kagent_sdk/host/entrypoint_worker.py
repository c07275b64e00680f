"""Workers that run the agent's entrypoint: frames on a socketpair, stacks on a pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

from kagent_sdk.host.launch_reader import LaunchReader
from kagent_sdk.host.place import Place
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.stack_reader import StackReader
from kagent_sdk.host.worker_kind import WorkerEvents
from kagent_sdk.host.worker_process import EntrypointProcess, WorkerProcess, spawn_worker
from kagent_sdk.host.worker_start import WorkerStart
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import SECONDS


class EntrypointWorkers:
    """The `kagent_sdk.host.worker_kind.WorkerKind` of an agent written with this library.

    Args:
        start: how they are started.
        reception: makes their connections.
    """

    def __init__(self, start: WorkerStart, *, reception: Reception) -> None:
        self._start = start
        self._reception = reception

    def prepare(self) -> AbstractContextManager[None]:
        """Hold nothing: all that such a worker needs comes through its descriptors."""
        return nullcontext()

    def share_secrets(self, places: Sequence[Place]) -> None:
        """Send rotated secrets to the workers of these places."""
        self._reception.share_secrets(places)

    def spawn(self) -> WorkerProcess:
        """Start a worker.

        Raises:
            OSError: descriptors, processes or memory are used up; nothing stays open.
        """
        return spawn_worker(self._start, os.environ)

    @asynccontextmanager
    async def attach(
        self, place: Place, process: WorkerProcess, events: WorkerEvents
    ) -> AsyncIterator[None]:
        """Speak with the worker of a place for the time of the block."""
        assert isinstance(process, EntrypointProcess)
        stacks = StackReader(process.stacks_fd, events.on_stacks)
        launch = LaunchReader(process.report_fd, events.on_launched)
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: self._reception.connect(place, events.on_lost), sock=process.socket
            )
            yield
        finally:
            process.kill()
            if process.debug is not None:
                process.debug.close()
            if place.connection is not None:
                place.connection.abort()
            stacks.close()
            launch.close()

    def ask_to_stop(self, place: Place, within_s: float) -> None:
        """Let a worker run its ``on_shutdown`` hooks; kill one that is not ready."""
        if place.connection is not None:
            place.connection.is_open = False
            place.connection.send(Kind.STOP, 0, SECONDS.pack(within_s))
        if not place.is_ready and place.process is not None:
            place.process.kill()

    def kill(self, process: WorkerProcess, reason: str) -> None:
        """End a worker at once: what its threads did was asked for before."""
        process.kill()

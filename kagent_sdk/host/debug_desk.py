"""The debug socket: who may look into a worker, how many at a time, and what the log has of it."""

from __future__ import annotations

import asyncio
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kagent_sdk.config.models import DebugConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.debug_channel import DebugChannel
from kagent_sdk.host.debug_greeting import (
    Peer,
    RefusedError,
    check_peer,
    find_peer,
    read_hello,
    refuse,
    say_welcome,
)
from kagent_sdk.host.debug_listener import DebugListener, choose_path, open_listener
from kagent_sdk.host.debug_reports import clean_command
from kagent_sdk.host.debug_session import WorkerSession
from kagent_sdk.host.debug_stacks import STACKS, answer_stacks
from kagent_sdk.host.worker_process import EntrypointProcess
from kagent_sdk.protocol.debug import Hello, Kind, encode_frame

if TYPE_CHECKING:
    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.place import Place
    from kagent_sdk.host.succession import Succession

MAX_GREETINGS = 16
"""Connections beyond the sessions that may be about to say what they want."""

ACCEPT_PAUSE_S = 1.0
"""After a connection that could not be taken: descriptors are used up."""

ANSWER_S = 10.0
"""For a client to read what the host answers itself."""

DRAINING = "the agent is stopping"


@dataclass(frozen=True, slots=True)
class Target:
    """A worker that can be looked into."""

    place: Place
    channel: DebugChannel


class DebugDesk:
    """Takes connections to the debug socket, and hands them on to a worker.

    Nothing that a client does, or leaves undone, holds up the host's loop.

    Args:
        directory: the agent's folder.
        config: of the generation that the host began with: it changes with a restart alone.
        succession: the workers.
        pump: told of everything.
    """

    def __init__(
        self, directory: Path, config: DebugConfig, *, succession: Succession, pump: LogPump
    ) -> None:
        self._directory = directory
        self._config = config
        self._succession = succession
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self._listener: DebugListener | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._sessions = 0
        self._last_number = 0

    async def open(self) -> dict[str, str]:
        """Listen; return what clients on this machine are to know: where, or why not.

        A debug socket that cannot be had is no reason for the agent not to run.
        """
        path = choose_path(self._directory, self._config.socket)
        try:
            self._listener = await asyncio.to_thread(open_listener, path)
        except StartupError as exc:
            self._pump.log("error", "debug_not_available", reason=str(exc))
            return {"debug_fault": str(exc)}
        self._loop.add_reader(self._listener.socket, self._accept)
        self._pump.log("info", "debug_listening", socket=str(path))
        return {"debug_socket": str(path)}

    def drain(self) -> None:
        """Listen no more, and end all sessions."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.socket)
            self._listener.close()
            self._listener = None
        if self._retry is not None:
            self._retry.cancel()
        for job in self._jobs:
            job.cancel()

    async def aclose(self) -> None:
        """Do the same, and wait."""
        self.drain()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as exc:
            self._pump.log("error", "debug_connection_not_taken", error=str(exc))
            self._loop.remove_reader(self._listener.socket)
            self._retry = self._loop.call_later(ACCEPT_PAUSE_S, self._resume)
            return
        connection.setblocking(False)  # noqa: FBT003 - the standard library's way
        job = self._loop.create_task(self._serve(connection), name="debug connection")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _resume(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.socket, self._accept)

    # One connection

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            peer = find_peer(connection)
            try:
                hello = await self._greet(peer, connection)
                worker = None if _is_stacks(hello) else self._find_worker()
            except RefusedError as exc:
                self._note_refusal(connection, peer, str(exc))
                return
            except asyncio.CancelledError:
                self._note_refusal(connection, peer, DRAINING)
                raise
            except OSError:
                return  # it is gone before it has said anything
            self._sessions += 1
            try:
                await self._hold(connection, peer, hello, worker)
            finally:
                self._sessions -= 1

    async def _greet(self, peer: Peer, connection: socket.socket) -> Hello:
        check_peer(peer)
        if len(self._jobs) > self._config.max_sessions + MAX_GREETINGS:
            raise RefusedError("too many connections have not said yet what they want")
        hello = await read_hello(connection)
        if self._sessions >= self._config.max_sessions:
            raise RefusedError(
                f"{self._sessions} sessions are open, and debug.max_sessions allows no more: end one"
            )
        return hello

    def _note_refusal(self, connection: socket.socket, peer: Peer, reason: str) -> None:
        refuse(connection, reason)
        self._pump.log(
            "warning",
            "debug_session_refused",
            reason=reason,
            peer_pid=peer.pid,
            peer_uid=peer.uid,
        )

    async def _hold(
        self, connection: socket.socket, peer: Peer, hello: Hello, worker: Target | None
    ) -> None:
        """Serve a session from the welcome to its end, and put both on record."""
        self._last_number += 1
        number, began_s = self._last_number, self._loop.time()
        who = {"session": number, "peer_pid": peer.pid, "peer_uid": peer.uid}
        index = None if worker is None else worker.place.index
        self._pump.log("warning", "debug_session_opened", **who, worker=index)
        commands = CommandLog(self._pump, number, hello)
        why = "draining"
        try:
            say_welcome(connection, number)
            if worker is None:
                why = await self._tell_stacks(connection, hello)
            else:
                session = WorkerSession(number, connection, worker.channel, commands.note)
                why = await self._follow(session, connection, hello)
                commands.dropped = session.dropped
        except OSError as exc:
            why = exc.strerror or "client_gone"
        finally:
            self._pump.log(
                "warning",
                "debug_session_ended",
                **who,
                why=why,
                commands=commands.count,
                dropped_commands=commands.dropped,
                took_s=round(self._loop.time() - began_s, 3),
            )

    async def _follow(self, session: WorkerSession, connection: socket.socket, hello: Hello) -> str:
        try:
            return await session.run(hello)
        except OSError:
            connection.send(NOT_TAKEN, socket.MSG_NOSIGNAL)
            return "not_taken"

    async def _tell_stacks(self, connection: socket.socket, hello: Hello) -> str:
        assert hello.command is not None
        places = self._succession.pool.places
        frames = await answer_stacks(hello.command[1:], places, self._pump.redactor)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._loop.sock_sendall(connection, frames)
        except TimeoutError:
            return "client_does_not_read"
        return "done"

    def _find_worker(self) -> Target:
        """Return the oldest worker that is ready, or else the oldest that starts.

        Raises:
            RefusedError: there is none that can be looked into.
        """
        pool = self._succession.pool
        if pool.config.worker.command is not None:
            _refuse_program()
        found = [
            (not place.is_ready, place.started_at, place.index, place, process.debug)
            for place in pool.places
            if isinstance(process := place.process, EntrypointProcess)
            and process.debug is not None
            and place.hello is not None
        ]
        if not found:
            raise RefusedError(
                "no worker has come as far as agent.run(): `kos-agent debug . stacks` shows where it "
                "is, `kos-agent logs` what it has printed"
            )
        *_, place, channel = min(found, key=lambda each: each[:3])
        return Target(place, channel)


class CommandLog:
    """Puts the commands of a session into the log.

    Args:
        pump: the log.
        number: of the session.
        hello: what it is for: one command is known from the start, and believed to be the one.

    Attributes:
        count: how many there were.
        dropped: how many the worker has told of that were too many, or none.
    """

    def __init__(self, pump: LogPump, number: int, hello: Hello) -> None:
        self._pump = pump
        self._number = number
        self._first = None if hello.command is None else clean_command(shlex.join(hello.command))
        self.count = 0
        self.dropped = 0
        if self._first is not None:
            self._write(self._first)

    def note(self, command: str) -> None:
        """Take what the worker says is run: the command that the client came with is known."""
        if self._first is None:
            self._write(command)
        self._first = None

    def _write(self, command: str) -> None:
        self.count += 1
        self._pump.log("warning", "debug_command", session=self._number, command=command)


def _is_stacks(hello: Hello) -> bool:
    return hello.command is not None and hello.command[0] == STACKS


def _refuse_program() -> NoReturn:
    raise RefusedError(
        "this agent runs a program (worker.command): there is no Python worker to look into"
    )


NOT_TAKEN = encode_frame(
    Kind.ERROR,
    b"the worker takes no session: it stands still, or is about to end; `kos-agent debug . stacks` "
    b"asks the host instead\n",
) + encode_frame(Kind.EXIT, b"\x01")

"""A debug server with an agent's loop behind it, and a client on a real socketpair."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from kagent_sdk.debug.port import LoopView, TaskView
from kagent_sdk.debug.server import DebugServer
from kagent_sdk.protocol.debug import FrameReader, Hello, Kind, encode_frame

SECRET = "s3cr3t-value"  # noqa: S105 - the one that must not be seen
MASK = "***TOKEN***"

DEADLINE_S = 8.0
"""Only a test that fails waits for so long."""


class Agent:
    """The author's, as far as the server looks at it."""

    name = "clerk"

    def __init__(self) -> None:
        self.values: list[object] = []

    async def double(self, number: int) -> int:
        """Need the loop that the agent lives in."""
        await asyncio.sleep(0)
        self.values.append(asyncio.get_running_loop())
        return 2 * number


class AgentLoop:
    """An event loop in a thread, as the agent's; it can be blocked."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="agent")
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """Its thread."""
        return self._thread.ident

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await something in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_S)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Keep the loop from doing anything."""
        entered, leave = threading.Event(), threading.Event()

        def block() -> None:
            entered.set()
            leave.wait(DEADLINE_S)

        self.loop.call_soon_threadsafe(block)
        assert entered.wait(DEADLINE_S)
        try:
            yield
        finally:
            leave.set()

    def jobs(self) -> set[str]:
        """Return the names of the jobs that run in it, without the one that looks."""

        async def look() -> set[str]:
            return {job.get_name() for job in asyncio.all_tasks() - {asyncio.current_task()}}

        return set(self.run(look()))

    def close(self) -> None:
        """End it. Idempotent."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


class FakeInspected:
    """A worker that knows one secret."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.agent = Agent()
        self.loop = loop

    def tasks(self) -> tuple[TaskView, ...]:
        """None run."""
        return ()

    def loops(self) -> tuple[LoopView, ...]:
        """There are none."""
        return ()

    def secret_names(self) -> tuple[str, ...]:
        """One."""
        return ("TOKEN",)

    async def state(self, key: str) -> object:
        """Return what stands under any key but one."""
        if key == "nothing":
            raise KeyError(key)
        return {"key": key}

    def set_log_level(self, level: str) -> None:
        """Do nothing."""

    def redact(self, text: str) -> str:
        """Take the one secret out."""
        return text.replace(SECRET, MASK)


@dataclass
class Client:
    """The other end of a session; reads on a thread-free socket, frame by frame."""

    connection: socket.socket
    ended: threading.Event = field(default_factory=threading.Event)
    commands: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    out: str = ""
    errors: str = ""
    code: int | None = None
    _frames: FrameReader = field(default_factory=FrameReader)

    def on_end(self) -> None:
        """Count, for it must come once."""
        self.ends.append(1)
        self.ended.set()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send one frame."""
        self.connection.sendall(encode_frame(kind, payload))

    def type(self, text: str) -> None:
        """Send what the user types."""
        self.send(Kind.INPUT, text.encode())

    def read_until(self, is_enough: Callable[[], bool]) -> None:
        """Take frames until something is true of what was read, or the connection ends."""
        self.connection.settimeout(DEADLINE_S)
        while not is_enough():
            data = self.connection.recv(65536)
            if not data:
                assert is_enough(), f"the session ended with {self.out!r} {self.errors!r}"
                return
            for kind, payload in self._frames.feed(data):
                self._take(kind, payload)

    def expect(self, text: str) -> None:
        """Read until a text has come; what was before it is forgotten."""
        self.read_until(lambda: text in self.out)
        self.out = self.out.partition(text)[2]

    def finish(self) -> int:
        """Read to the end; return the exit code."""
        self.read_until(lambda: self.code is not None)
        assert self.ended.wait(DEADLINE_S)
        assert self.code is not None
        return self.code

    def leave(self) -> None:
        """Hang up without a word."""
        self.connection.close()
        assert self.ended.wait(DEADLINE_S)

    def _take(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.OUTPUT:
            self.out += payload.decode()
        elif kind is Kind.ERROR:
            self.errors += payload.decode()
        else:
            assert kind is Kind.EXIT
            self.code = payload[0]


class Rig:
    """The agent's loop, what is inspected, and the server."""

    def __init__(self) -> None:
        self.agent = AgentLoop()
        self.inspected = FakeInspected(self.agent.loop)
        self.gates: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.server = DebugServer(self.inspected, make_commands=lambda: _commands(self))
        self._clients: list[Client] = []
        self._jobs: list[asyncio.Task[None]] = []

    @property
    def shell(self) -> Any:
        """What sessions share; there from the first one on."""
        return self.server._shell

    def start_job(self) -> asyncio.Task[None]:
        """Return a job of the agent's that waits; it is cancelled at the end."""

        async def linger() -> None:
            await asyncio.Event().wait()

        async def start() -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(linger(), name="lingering")

        job: asyncio.Task[None] = self.agent.run(start())
        self._jobs.append(job)
        return job

    @staticmethod
    def gate() -> threading.Event:
        """Return something to wait at."""
        return threading.Event()

    @staticmethod
    def wait_until(is_so: Callable[[], bool]) -> None:
        """Wait for what tells nobody of itself, such as a thread's end."""
        limit_s = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < limit_s
            threading.Event().wait(0.01)

    def attach(self, hello: Hello) -> Client:
        """Return a client of a new session."""
        ours, theirs = socket.socketpair()
        client = Client(ours)
        self._clients.append(client)
        self.server.attach(theirs, hello, on_command=client.commands.append, on_end=client.on_end)
        return client

    def command(self, *words: str) -> Client:
        """Return a client that runs one command."""
        return self.attach(Hello(words))

    def terminal(self) -> Client:
        """Return a client with a terminal, whose prompt is shown."""
        client = self.attach(Hello(None, 80, 24, "xterm", is_terminal=True))
        client.expect("clerk › ")
        return client

    def close(self) -> None:
        """End everything."""
        self.server.close()
        for client in self._clients:
            client.connection.close()
        for job in self._jobs:
            self.agent.run(_end(job))
        self.agent.close()


async def _end(job: asyncio.Task[None]) -> None:
    job.cancel()
    await asyncio.wait([job])


def _commands(rig: Rig) -> list[click.Command]:
    @click.command("say")
    @click.argument("words", nargs=-1)
    @click.option("--loud", is_flag=True)
    @click.pass_obj
    def say(session: Any, words: tuple[str, ...], loud: bool) -> None:
        """Print words, each by itself and without an end."""
        for word in words:
            session.out.write(word.upper() if loud else word)

    @click.command("hold")
    @click.pass_obj
    def hold(session: Any) -> None:
        """Run until a test lets go, or nobody waits."""
        gate = threading.Event()
        rig.gates.put((gate, session))
        while not gate.wait(0.01) and not session.is_over():
            pass
        session.out.write("let go\n")

    @click.command("flood")
    @click.pass_obj
    def flood(session: Any) -> None:
        """Print for ever."""
        while True:
            session.out.write("x" * 1000 + "\n")

    @click.command("fail")
    def fail() -> None:
        """Fail with a secret."""
        raise ValueError(f"wrong: {SECRET}")

    @click.command("ring")
    @click.pass_obj
    def ring(session: Any) -> None:
        """Print what a terminal obeys."""
        session.out.write("\x07ding\x1b[31m\n")

    @click.command("width")
    @click.pass_obj
    def width(session: Any) -> None:
        """Print how wide the terminal is."""
        session.out.write(f"{session.width} columns\n")

    return [say, hold, flood, fail, ring, width]

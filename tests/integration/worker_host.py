"""The host's side of the frames, by hand: drives a worker in this process or in one of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from textwrap import dedent
from typing import Any

from pydantic import BaseModel

from kagent_sdk import Agent, TaskContext
from kagent_sdk.context import CURRENT_TASK
from kagent_sdk.protocol.frames import TO_HOST, Frame, FrameDecoder, Kind, encode
from kagent_sdk.protocol.manifest import Heartbeat, Hello, Welcome
from kagent_sdk.protocol.messages import COUNT, SECONDS, decode_failure, encode_run
from kagent_sdk.protocol.tasks import TaskFailure
from kagent_sdk.worker.runtime import Ending, Runtime

PATIENCE_S = 60.0
"""Two shared, noisy cores: how long a test waits for what takes milliseconds."""


class WorkerHost:
    """A host that does what the test says, and nothing by itself but take heartbeats.

    Attributes:
        hello: what the worker has said first.
        heartbeats: all that have come.
        serve_state: answers STATE frames, once the test has set it.
    """

    hello: Hello
    serve_state: Callable[[bytes], bytes] | None = None

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's way
        self.heartbeats: list[Heartbeat] = []
        self._sock = sock
        self._decoder = FrameDecoder(limit_bytes=64 * 1024 * 1024, kinds=TO_HOST)
        self._frames: deque[Frame] = deque()
        self._last_number = 0

    async def start(self, **welcome: Any) -> Hello:
        """Say WELCOME to the worker's HELLO and wait for its READY."""
        await self.greet(**welcome)
        assert (await self.receive())[0] == Kind.READY
        return self.hello

    async def greet(self, **welcome: Any) -> None:
        """Say WELCOME to the worker's HELLO."""
        kind, _, payload = await self.receive()
        assert kind == Kind.HELLO
        self.hello = Hello.model_validate_json(payload)
        options = {"agent_name": "a", "agent_version": "1", "worker_index": 0, **welcome}
        await self.send(Kind.WELCOME, 0, Welcome(**options).model_dump_json().encode())

    async def send(self, kind: int, number: int = 0, payload: bytes = b"") -> None:
        """Send one frame."""
        await asyncio.get_running_loop().sock_sendall(self._sock, encode(kind, number, payload))

    async def run(self, capability: str, input: Any = None, **options: Any) -> int:
        """Send a RUN frame and return its number."""
        self._last_number += 1
        names = [each.name for each in self.hello.capabilities]
        index = names.index(capability)
        raw = json.dumps({} if input is None else input).encode()
        payload = run_payload(index, raw, task_id=f"t-{self._last_number}", **options)
        await self.send(Kind.RUN, self._last_number, payload)
        return self._last_number

    async def call(self, capability: str, input: Any = None, **options: Any) -> Any:
        """Run a task and return its output."""
        return (await self.answer(await self.run(capability, input, **options))).output

    async def fail(self, capability: str, input: Any = None, **options: Any) -> TaskFailure:
        """Run a task and return its failure."""
        answer = await self.answer(await self.run(capability, input, **options))
        assert answer.failure is not None, answer
        return answer.failure

    async def answer(self, number: int, *, acknowledge: bool = True) -> Answer:
        """Wait for a task's end and return all that came of it; ACK its events."""
        answer = Answer()
        while True:
            kind, its_number, payload = await self.receive()
            assert its_number == number, (kind, its_number, payload)
            if kind == Kind.EVENT:
                answer.events.append(json.loads(payload))
                if acknowledge:
                    await self.send(Kind.ACK, number, COUNT.pack(1))
            elif kind == Kind.PROGRESS:
                answer.progress.append(json.loads(payload))
            elif kind == Kind.COMMIT:
                answer.commit = payload
            elif kind == Kind.ERROR:
                answer.failure = decode_failure(payload)
                return answer
            else:
                assert kind == Kind.RESULT
                answer.output = json.loads(payload) if payload else None
                return answer

    async def receive(self) -> Frame:
        """Return the next frame that is not a heartbeat, nor about the state if that is served.

        Raises:
            EOFError: the worker has closed its end.
        """
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame[0] == Kind.HEARTBEAT:
                    self.heartbeats.append(Heartbeat.model_validate_json(frame[2]))
                elif frame[0] == Kind.STATE and self.serve_state is not None:
                    await self.send(Kind.STATE_ANSWER, frame[1], self.serve_state(frame[2]))
                else:
                    return frame
            await self._read()

    async def beat(self) -> Heartbeat:
        """Wait for the next heartbeat; other frames stay for `receive`."""
        while True:
            for frame in self._frames:
                if frame[0] == Kind.HEARTBEAT:
                    self._frames.remove(frame)
                    return Heartbeat.model_validate_json(frame[2])
            await self._read()

    async def stop(self, seconds: float = 5.0) -> None:
        """Say STOP and read to the end."""
        await self.send(Kind.STOP, 0, SECONDS.pack(seconds))
        await self.drain()

    async def drain(self) -> None:
        """Read until the worker has closed its end; what comes is dropped."""
        with suppress(EOFError):
            while True:
                await self.receive()

    def vanish(self) -> None:
        """Close the socket without a word."""
        self._sock.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await loop.sock_recv(self._sock, 65536)
            except ConnectionResetError:
                data = b""
        if not data:
            raise EOFError("the worker has closed its end")
        self._frames.extend(self._decoder.feed(data))


@dataclass(slots=True)
class Answer:
    """What came of a task; ``commit`` is the payload of the COMMIT before its RESULT."""

    output: Any = None
    failure: TaskFailure | None = None
    commit: bytes | None = None
    events: list[Any] = field(default_factory=list)
    progress: list[dict[str, Any]] = field(default_factory=list)


def run_payload(  # noqa: PLR0913 - a frame has that many parts
    index: int,
    raw: bytes,
    *,
    task_id: str = "t",
    attempt: int = 1,
    timeout_s: float = inf,
    traceparent: str = "",
    metadata: bytes = b"{}",
) -> bytes:
    """Return the payload of a RUN frame."""
    return encode_run(
        index,
        attempt,
        timeout_s,
        task_id=task_id,
        traceparent=traceparent,
        metadata=metadata,
        input=raw,
    )


@asynccontextmanager
async def serving(
    agent: Agent, serve_state: Callable[[bytes], bytes] | None = None, **welcome: Any
) -> AsyncIterator[WorkerHost]:
    """Serve an agent in this process, started, for the time of the block; then STOP it.

    The worker must end by itself, with `Ending.STOPPED`.
    """
    ours, theirs = socket.socketpair()
    host = WorkerHost(ours)
    host.serve_state = serve_state
    worker = asyncio.create_task(Runtime(agent.parts).serve(theirs))
    try:
        await host.start(**welcome)
        yield host
        await host.stop()
        assert await worker is Ending.STOPPED
    finally:
        host.vanish()
        await asyncio.wait([worker])


@dataclass(slots=True)
class WorkerProcess:
    """A worker in a process of its own."""

    host: WorkerHost
    popen: subprocess.Popen[bytes]
    stacks_fd: int

    async def wait(self) -> int:
        """Return the exit code, once the process has ended."""
        return await asyncio.to_thread(self.popen.wait, PATIENCE_S)

    async def output(self) -> tuple[str, str]:
        """Return stdout and stderr, once the process has ended: read for as long as it runs."""
        out, err = await asyncio.to_thread(self.popen.communicate)
        return out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")


@asynccontextmanager
async def worker_process(
    folder: Path, source: str, environment: dict[str, str] | None = None
) -> AsyncIterator[WorkerProcess]:
    """Start a worker on an entrypoint with this source; kill it at the end of the block."""
    worker = _start(folder, source, environment or {})
    try:
        yield worker
    finally:
        worker.popen.kill()
        worker.host.vanish()
        os.close(worker.stacks_fd)
        await asyncio.to_thread(worker.popen.communicate)


def _start(folder: Path, source: str, environment: dict[str, str]) -> WorkerProcess:
    folder.mkdir(exist_ok=True)
    (folder / "entrypoint.py").write_text(dedent(source))
    ours, theirs = socket.socketpair()
    stacks_read, stacks_write = os.pipe()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_")}
    popen = subprocess.Popen(
        [sys.executable, "-m", "kagent_sdk.worker.bootstrap", "entrypoint.py"],
        cwd=folder,
        env={
            **kept,
            "AGENT_WORKER_FD": str(theirs.fileno()),
            "AGENT_STACKS_FD": str(stacks_write),
            "AGENT_STACKS_SIGNAL": "40",
            **environment,
        },
        pass_fds=(theirs.fileno(), stacks_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    theirs.close()
    os.close(stacks_write)
    return WorkerProcess(WorkerHost(ours), popen, stacks_read)


class Document(BaseModel):
    """An input."""

    text: str


def make_agent() -> Agent:
    """Return an agent with one capability of each kind."""
    agent = Agent("subject", "1.2")

    @agent.capability
    async def upper(document: Document, ctx: TaskContext) -> Document:
        await asyncio.sleep(0)
        assert CURRENT_TASK.get() is ctx
        return Document(text=document.text.upper())

    @agent.capability
    def lower(document: Document, ctx: TaskContext) -> str:
        assert CURRENT_TASK.get() is ctx
        assert threading.current_thread() is not threading.main_thread()
        return document.text.lower()

    @agent.capability
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    return agent


AGENT = """
    import asyncio, os, signal, subprocess, sys, threading, time
    from kagent_sdk import Agent, TaskContext

    agent = Agent()

    {body}

    if __name__ == "__main__":
        agent.run()
        print("after run")
"""


def agent_source(body: str) -> str:
    """Return an entrypoint with this body."""
    return AGENT.format(body=body)


async def ended(worker: WorkerProcess) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    out, err = await worker.output()
    return worker.popen.returncode, out, err

"""The worker as a process: signals, crashes, exits, stacks."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from kagent_sdk.protocol.frames import Kind
from tests.integration.worker_host import agent_source, ended, worker_process


async def test_a_worker_lives_from_hello_to_stop(tmp_path: Path) -> None:
    """The whole life in one process, as the host drives it."""
    body = """
    @agent.on_startup
    def start() -> None:
        print("started")

    @agent.on_shutdown
    async def stop() -> None:
        print("stopped")

    @agent.capability
    async def greet(name: str) -> str:
        return f"Hello, {name}!"
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        hello = await worker.host.start(heartbeat_s=0.05)
        assert hello.pid == worker.popen.pid
        assert await worker.host.call("greet", {"name": "Ada"}) == "Hello, Ada!"
        await worker.host.beat()
        await worker.host.stop()
        code, out, err = await ended(worker)

    assert (code, out, err) == (0, "started\nstopped\nafter run\n", "")


async def test_start_up_that_raises_exits_with_1(tmp_path: Path) -> None:
    """The host counts it as a crash and shows the traceback."""
    body = """
    @agent.on_startup
    def connect() -> None:
        raise ConnectionError("no database")
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.greet()
        await worker.host.drain()
        code, out, err = await ended(worker)

    assert (code, out) == (1, "")
    assert "ConnectionError: no database" in err
    assert "/kagent_sdk/" not in err


async def test_the_worker_ends_when_the_host_vanishes(tmp_path: Path) -> None:
    """No orphan keeps running, not even with a thread that is stuck."""
    body = """
    @agent.capability
    def stuck(ctx: TaskContext) -> None:
        ctx.emit(1)
        time.sleep(600)

    threading.Thread(target=time.sleep, args=(600,)).start()
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("stuck")
        await worker.host.receive()
        worker.host.vanish()

        assert await worker.wait() == 1


async def test_a_host_that_breaks_the_protocol_is_an_internal_error(tmp_path: Path) -> None:
    """Exit code 70: ours, not the author's."""
    async with worker_process(tmp_path / "a", agent_source("")) as worker:
        await worker.host.start()
        await worker.host.send(Kind.READY)
        code, _, err = await ended(worker)

    assert code == 70
    assert err == "the host broke the frame protocol: unexpected frame kind 34\n"


async def test_exits_in_tasks_and_jobs_do_not_end_the_worker(tmp_path: Path) -> None:
    """A library that calls sys.exit() costs one task, not the agent."""
    body = """
    @agent.capability
    async def leave() -> None:
        sys.exit(7)

    @agent.capability
    def leave_sync() -> None:
        sys.exit(7)

    @agent.capability
    async def leave_job() -> str:
        job = asyncio.create_task(leave())
        await asyncio.sleep(0.05)
        return type(job.exception()).__name__
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        failures = [await worker.host.fail(name) for name in ("leave", "leave_sync")]
        assert await worker.host.call("leave_job") == "SystemExit"
        await worker.host.stop()
        code, _, err = await ended(worker)

    assert code == 0
    assert [failure.message for failure in failures] == ["SystemExit: 7"] * 2
    assert "a job wanted to end the process; it goes on:" in err


async def test_signals_are_left_to_the_host(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches the worker too; the host decides what happens."""
    body = """
    @agent.capability
    async def ask() -> str:
        return "here"
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.killpg(worker.popen.pid, number)
            assert await worker.host.call("ask") == "here"
        await worker.host.stop()

        assert await worker.wait() == 0


async def test_children_of_the_author_take_signals_and_do_not_hold_the_socket(
    tmp_path: Path,
) -> None:
    """Subprocesses and forks end on SIGTERM; a fork that lives on must not hide a dead worker."""
    body = """
    @agent.capability
    def spawn() -> list[int]:
        child = subprocess.Popen(["sleep", "600"])
        child.terminate()
        heard, told = os.pipe()
        forked = os.fork()
        if forked == 0:
            try:
                os.write(told, b"ready")
                signal.pause()
            finally:
                os._exit(9)
        os.read(heard, 5)
        os.kill(forked, signal.SIGTERM)
        return [child.wait(), os.waitpid(forked, 0)[1]]

    @agent.capability
    def leave_a_fork() -> int:
        forked = os.fork()
        if forked == 0:
            time.sleep(600)
        return forked

    @agent.capability
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        assert await worker.host.call("spawn") == [-signal.SIGTERM, signal.SIGTERM]
        forked = await worker.host.call("leave_a_fork")
        try:
            await worker.host.run("die")
            await worker.host.drain()
            os.kill(forked, 0)
        finally:
            os.kill(forked, signal.SIGKILL)

        assert await worker.wait() == -signal.SIGKILL


async def test_a_blocked_worker_shows_its_stack(tmp_path: Path) -> None:
    """With faulthandler over a pipe the host sees where it hangs, even in C code."""
    body = """
    @agent.capability
    async def block() -> None:
        os.write(1, b"blocks\\n")
        time.sleep(600)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("block")
        assert worker.popen.stdout is not None
        assert await asyncio.to_thread(worker.popen.stdout.readline) == b"blocks\n"
        worker.popen.send_signal(40)
        stack = b""
        # It comes in pieces, as the worker has its turns.
        while b" in block\n" not in stack:
            stack += (piece := await asyncio.to_thread(os.read, worker.stacks_fd, 65536))
            assert piece, stack

    assert b"entrypoint.py" in stack


async def test_a_segfault_leaves_a_stack_on_stderr(tmp_path: Path) -> None:
    """The fault handler is on before the author's first import."""
    body = """
    @agent.capability
    def crash() -> None:
        import ctypes
        ctypes.string_at(0)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("crash")
        code, _, err = await ended(worker)

    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in err
    assert " in crash" in err


async def test_the_worker_imports_only_what_it_needs(tmp_path: Path) -> None:
    """Start-up is a budget: structlog comes with the first logged line, the state with its first use."""
    body = """
    HEAVY = (
        "aiohttp", "yaml", "click", "rich", "psutil", "sqlite3", "structlog", "prometheus_client",
        "kagent_sdk.context.state", "kagent_sdk.protocol.state",
    )

    @agent.capability
    async def imported() -> list[str]:
        # Where coverage is measured, coverage itself has imported the database.
        heavy = set(HEAVY) - ({"sqlite3"} if "coverage" in sys.modules else set())
        return [name for name in heavy if name in sys.modules]

    @agent.capability
    async def log(ctx: TaskContext) -> None:
        ctx.log.info("hello", answer=42)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        imported = await worker.host.call("imported")
        await worker.host.call("log", attempt=3)
        await worker.host.stop()
        _, out, _ = await ended(worker)

    assert imported == []
    for part in ("hello", "answer", "42", "task_id", "t-2", "capability", "attempt"):
        assert part in out


async def test_a_flood_of_events_arrives_whole(tmp_path: Path) -> None:
    """10,000 events through a window of 16, from each kind of capability."""
    body = """
    from collections.abc import AsyncIterator

    @agent.capability
    async def stream() -> AsyncIterator[int]:
        for number in range(10_000):
            yield number

    @agent.capability
    async def emit(ctx: TaskContext) -> None:
        for number in range(10_000):
            await ctx.emit(number)

    @agent.capability
    def emit_sync(ctx: TaskContext) -> None:
        for number in range(10_000):
            ctx.emit(number)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start(event_window=16)
        for name in ("stream", "emit", "emit_sync"):
            answer = await worker.host.answer(await worker.host.run(name))
            assert answer.events == list(range(10_000))
        await worker.host.stop()

        assert await worker.wait() == 0


async def test_stopping_does_not_wait_for_a_stuck_thread(tmp_path: Path) -> None:
    """Pool threads are daemons."""
    body = """
    @agent.capability
    def stuck(ctx: TaskContext) -> None:
        ctx.emit(1)
        time.sleep(600)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("stuck")
        await worker.host.receive()
        began_s = time.monotonic()
        await worker.host.stop(0.2)

        assert await worker.wait() == 0
        assert time.monotonic() - began_s < 60

"""The worker as a process: what it does to and with the entrypoint, signals, crashes and exits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kagent_sdk.protocol.frames import Kind
from tests.integration.worker_host import WorkerProcess, worker_process

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


async def test_an_entrypoint_that_raises_shows_its_own_traceback(tmp_path: Path) -> None:
    """The author looks for their line, not for ours."""
    source = """
        def load():
            return {}["model"]

        load()
    """
    async with worker_process(tmp_path / "a", source) as worker:
        code, _, err = await ended(worker)

    assert code == 1
    assert err.startswith("Traceback (most recent call last):\n  File ")
    assert 'return {}["model"]' in err
    assert err.endswith("KeyError: 'model'\n")
    assert "kagent_sdk" not in err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (", "SyntaxError: '(' was never closed"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        (
            "from kagent_sdk import Agent\nagent = Agent()\n@agent.capability\ndef f(x): ...\n",
            "DeclarationError",
        ),
    ],
)
async def test_an_entrypoint_that_cannot_run_says_why(
    source: str, message: str, tmp_path: Path
) -> None:
    """The last lines of stderr are what the host shows when it gives up."""
    async with worker_process(tmp_path / "a", source) as worker:
        code, _, err = await ended(worker)

    assert code == 1
    assert message in err
    assert "entrypoint.py" in err
    assert "/kagent_sdk/" not in err


async def test_an_entrypoint_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    """A typo in `entrypoint` of config.yaml."""
    completed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "kagent_sdk.worker.bootstrap", "nowhere.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 3
    path = tmp_path / "nowhere.py"
    assert completed.stderr == f"cannot read the entrypoint {path}: No such file or directory\n"


async def test_the_bootstrap_without_an_entrypoint_shows_its_usage() -> None:
    """Somebody started the module by hand."""
    completed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "kagent_sdk.worker.bootstrap"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 2
    assert completed.stderr.startswith("usage: ")


async def test_sys_exit_at_import_ends_the_worker(tmp_path: Path) -> None:
    """An author's own check of the environment may refuse to start."""
    source = """
        import sys
        sys.exit("no GPU here")
    """
    async with worker_process(tmp_path / "a", source) as worker:
        code, _, err = await ended(worker)

    assert (code, err) == (1, "no GPU here\n")


async def test_an_entrypoint_that_never_runs_its_agent_says_so(tmp_path: Path) -> None:
    """The forgotten last line."""
    async with worker_process(tmp_path / "a", "from kagent_sdk import Agent\nAgent()\n") as worker:
        code, _, err = await ended(worker)

    assert code == 3
    assert err == (
        "entrypoint.py ended without calling agent.run(): "
        'write `if __name__ == "__main__": agent.run()` at its end\n'
    )


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
        forked = os.fork()
        if forked == 0:
            try:
                signal.pause()
            finally:
                os._exit(9)
        time.sleep(0.1)
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
    async def block(ctx: TaskContext) -> None:
        await ctx.emit(1)
        await asyncio.sleep(0)
        time.sleep(600)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("block")
        await worker.host.receive()
        await asyncio.sleep(0.2)
        worker.popen.send_signal(40)
        stack = await asyncio.to_thread(os.read, worker.stacks_fd, 65536)

    assert b"entrypoint.py" in stack
    assert b" in block" in stack


async def test_the_entrypoint_is_main_for_whoever_asks(tmp_path: Path) -> None:
    """Pickle, multiprocessing and type hints look the module up as `__main__`."""
    body = """
    import helper, multiprocessing, pickle
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int

    def double(point: Point) -> Point:
        return Point(point.x * 2)

    @agent.capability
    def work() -> list[object]:
        import __main__
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            doubled = pool.map(double, [Point(21)])
        return [
            pickle.loads(pickle.dumps(Point(1))) == Point(1),
            doubled[0].x,
            __main__.__file__ == __file__,
            helper.NAME,
            sys.argv == [__file__],
            sorted(name for name in os.environ if name.startswith("AGENT_")),
        ]
    """
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "helper.py").write_text("NAME = 'helper'\n")
    async with worker_process(folder, agent_source(body)) as worker:
        await worker.host.start()
        output = await worker.host.call("work")
        await worker.host.stop()

        assert await worker.wait() == 0
    assert output == [True, 42, True, "helper", True, ["AGENT_WORKER_PID"]]


async def test_the_entrypoint_is_main_even_if_multiprocessing_came_first(tmp_path: Path) -> None:
    """A .pth file or sitecustomize may import anything before our first line."""
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import multiprocessing\n")
    body = """
    @agent.capability
    def same() -> bool:
        return sys.modules["__mp_main__"] is sys.modules["__main__"]
    """
    environment = {"PYTHONPATH": str(shim)}
    async with worker_process(tmp_path / "a", agent_source(body), environment) as worker:
        await worker.host.start()

        assert await worker.host.call("same")


async def test_a_safe_path_keeps_the_folder_of_the_entrypoint(tmp_path: Path) -> None:
    """With PYTHONSAFEPATH Python puts no folder first: then nothing may be overwritten."""
    body = """
    @agent.capability
    def first_two() -> list[str]:
        return sys.path[:2]
    """
    folder = tmp_path / "a"
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path)}
    async with worker_process(folder, agent_source(body), environment) as worker:
        await worker.host.start()

        assert await worker.host.call("first_two") == [str(folder), str(tmp_path)]


async def test_what_the_author_prints_leaves_line_by_line(tmp_path: Path) -> None:
    """A crash must not swallow what was printed before it."""
    body = """
    @agent.capability
    def die() -> None:
        print("the last words")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.run("die")
        code, out, _ = await ended(worker)

    assert (code, out) == (-signal.SIGKILL, "the last words\n")


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


async def test_a_second_run_and_a_run_in_a_loop_are_refused(tmp_path: Path) -> None:
    """Both would otherwise replace the worker by a second host."""
    source = """
        import asyncio
        from kagent_sdk import Agent, StartupError

        agent = Agent()

        async def embed() -> None:
            agent.run()

        try:
            asyncio.run(embed())
        except StartupError as exc:
            print(exc)
        agent.run()
        for again in (agent, Agent()):
            try:
                again.run()
            except StartupError as exc:
                print(exc)
    """
    async with worker_process(tmp_path / "a", source) as worker:
        await worker.host.start()
        await worker.host.stop()
        code, out, _ = await ended(worker)

    assert code == 0
    assert "running event loop" in out.splitlines()[0]
    assert out.count("agent.run() was called twice") == 2


async def test_the_worker_imports_only_what_it_needs(tmp_path: Path) -> None:
    """Memory and start-up are budgets; structlog comes with the first line that is logged."""
    body = """
    HEAVY = ("aiohttp", "yaml", "click", "rich", "psutil", "structlog", "prometheus_client")

    @agent.capability
    async def imported() -> list[str]:
        return [name for name in HEAVY if name in sys.modules]

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


async def test_without_a_host_the_process_becomes_one(tmp_path: Path) -> None:
    """`python entrypoint.py` is `kos-agent run` in the entrypoint's folder."""
    shim = tmp_path / "shim"
    (shim / "kagent_sdk").mkdir(parents=True)
    report = (
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['AGENT_ENTRYPOINT']]))\n"
    )
    (shim / "host_stub.py").write_text(report)
    # The real command line would start a real host: here `-m kagent_sdk` is caught by a stub.
    (shim / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.orig_argv[1:3] == ['-m', 'kagent_sdk']:\n"
        "    import json, os\n"
        "    print(json.dumps([sys.orig_argv[3:], os.environ.get('AGENT_ENTRYPOINT')]))\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
    )
    folder = tmp_path / "a"
    folder.mkdir()
    for name, entrypoint in (("entrypoint.py", None), ("other.py", "other.py")):
        (folder / name).write_text("from kagent_sdk import Agent\nAgent().run()\n")
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("AGENT_")}
        completed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(folder / name)],
            env={**environment, "PYTHONPATH": str(shim)},
            capture_output=True,
            text=True,
            check=True,
        )

        assert json.loads(completed.stdout) == [["run", str(folder)], entrypoint]


async def test_an_import_of_the_entrypoint_does_not_run_the_agent(tmp_path: Path) -> None:
    """An author's test that imports an unguarded entrypoint must not turn into a host."""
    (tmp_path / "entrypoint.py").write_text("from kagent_sdk import Agent\nAgent().run()\n")
    completed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "import entrypoint"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 1
    assert "StartupError: agent.run() was called by an import: guard it" in completed.stderr


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
        assert time.monotonic() - began_s < 5

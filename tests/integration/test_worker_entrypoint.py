"""The author's file as the worker runs it: as `__main__`, with clear words when it fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.worker_host import agent_source, ended, worker_process


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
        await worker.host.stop()
        assert await worker.wait() == 0


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
        await worker.host.stop()
        assert await worker.wait() == 0


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

    assert code == -signal.SIGKILL
    assert out.endswith("\x1fthe last words\n")


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

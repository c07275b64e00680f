"""What a worker's pipes carry: whole lines, each with the task that printed it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from kagent_sdk.protocol.log_tags import decode_tag, split_tag
from tests.integration.worker_host import agent_source, ended, worker_process

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def read_line(line: str) -> tuple[dict[str, Any], str]:
    """Return the members of a line's tag, and the line itself."""
    tag, rest = split_tag(line.encode())
    return (decode_tag(tag) or {}) if tag else {}, rest.decode()


def read_lines(text: str) -> list[tuple[dict[str, Any], str]]:
    """Return all lines of a stream with their tags."""
    assert not text or text.endswith("\n")
    return [read_line(line) for line in text.split("\n")[:-1]]


async def test_lines_say_which_task_or_loop_printed_them(tmp_path: Path) -> None:
    """In its jobs, in its threads and in its children too."""
    body = """
    import multiprocessing
    print("imported")

    @agent.loop
    def sweep() -> None:
        print("swept", end="")

    @agent.capability
    async def talk() -> None:
        print("in the job", file=sys.stderr)
        await asyncio.create_task(asyncio.to_thread(print, "in a thread"))
        child = multiprocessing.get_context("fork").Process(
            target=print, args=("in a child",), kwargs={"end": ""}
        )
        child.start()
        await asyncio.to_thread(child.join)
        subprocess.run(["echo", "from a command"])

    @agent.capability
    def talk_sync() -> None:
        print("one", "two", sep="\\n")
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        await worker.host.start()
        await worker.host.call("talk", traceparent=TRACEPARENT, attempt=2)
        await worker.host.call("talk_sync")
        await worker.host.stop()
        code, out, err = await ended(worker)
    lines = {line: tag for tag, line in read_lines(out) + read_lines(err)}

    assert code == 0
    first = {"task_id": "t-1", "capability": "talk", "attempt": 2, "trace_id": "a" * 32}
    second = {"task_id": "t-2", "capability": "talk_sync", "attempt": 1}
    assert lines == {
        "imported": {},
        "swept": {"loop": "sweep", "run": 1},
        "in the job": first,
        "in a thread": first,
        "in a child": first,
        "from a command": {},
        "one": second,
        "two": second,
        "after run": {},
    }


async def test_many_that_print_at_once_never_mix_their_lines(tmp_path: Path) -> None:
    """Eight threads and a hundred jobs with long lines; processes with what a pipe takes whole."""
    body = """
    import multiprocessing
    LINES = 200

    def count(who: str, width: int = 50) -> None:
        for number in range(LINES):
            print(who, end=" ")
            print(number, "x" * (number * width), file=sys.stdout)

    @agent.capability
    def in_thread(who: str) -> None:
        count(who)

    @agent.capability
    async def in_jobs(who: str) -> None:
        async def job(number: int) -> None:
            for _ in range(10):
                print(f"{who}-{number}", "done")
                await asyncio.sleep(0)
        async with asyncio.TaskGroup() as jobs:
            for number in range(100):
                jobs.create_task(job(number))

    @agent.capability
    def in_children(who: str) -> None:
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=count, args=(f"{who}{n}", 10)) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
    """
    folder = tmp_path / "a"
    async with worker_process(folder, agent_source(body)) as worker:
        reader = asyncio.create_task(worker.output())
        await worker.host.start(threads=16)
        runs = [await worker.host.run("in_thread", {"who": f"t{n}"}) for n in range(8)]
        runs.append(await worker.host.run("in_jobs", {"who": "j"}))
        waiting = set(runs)
        while waiting:
            waiting.discard((await worker.host.receive())[1])
        await worker.host.call("in_children", {"who": "c"})
        await worker.host.stop()
        out, err = await reader

    assert err == ""
    lines = read_lines(out)
    assert lines.pop() == ({}, "after run")
    found: dict[str, list[str]] = {}
    for tag, line in lines:
        who, _, rest = line.partition(" ")
        assert tag["capability"] == {"t": "in_thread", "j": "in_jobs", "c": "in_children"}[who[0]]
        found.setdefault(who, []).append(rest)
    for who, width in [*((f"t{n}", 50) for n in range(8)), *((f"c{n}", 10) for n in range(3))]:
        assert found[who] == [f"{number} {'x' * (number * width)}" for number in range(200)]
    assert sum(rest == ["done"] * 10 for rest in found.values()) == 100


async def test_an_interrupt_in_a_print_leaves_no_lock_and_no_half_line(tmp_path: Path) -> None:
    """`TaskInterrupted` may come wherever the thread is: here in hundreds of threads that print."""
    body = """
    import ctypes
    from kagent_sdk.errors import TaskInterrupted
    threading.excepthook = lambda failed: None

    def shout(name: int, has_begun: threading.Event) -> None:
        number = 0
        while True:
            number += 1
            print("half", end=" ")
            print("line", f"{name}.{number}")
            has_begun.set()

    @agent.capability
    def torment() -> int:
        for name in range(300):
            has_begun = threading.Event()
            thread = threading.Thread(target=shout, args=(name, has_begun), daemon=True)
            thread.start()
            has_begun.wait()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(TaskInterrupted)
            )
            thread.join()
            print("interrupted", name)
        return threading.active_count()
    """
    async with worker_process(tmp_path / "a", agent_source(body)) as worker:
        reader = asyncio.create_task(worker.output())
        await worker.host.start()
        await worker.host.call("torment")
        await worker.host.stop()
        out, err = await reader
    lines = [line for _, line in read_lines(out)]

    assert err == ""
    assert [line for line in lines if line.startswith("inter")] == [
        f"interrupted {name}" for name in range(300)
    ]
    whole = [line for line in lines if re.fullmatch(r"half line \d+\.\d+", line)]
    assert len(set(whole)) == len(whole) >= 300
    # What a print had begun when it was interrupted is written at the end of the process.
    rest = {line for line in lines if not line.startswith("inter")} - set(whole)
    assert rest <= {"half", "half ", "half line", "half line ", "after run"}


async def test_nothing_that_was_printed_is_lost_when_the_process_ends(tmp_path: Path) -> None:
    """By sys.exit, by an exception, by a worker that the host has stopped."""
    ends = {
        "print('half', end=''); sys.exit(3)": (3, "half\n"),
        "print('half', end=''); raise ValueError('no')": (1, "half\n"),
        "import atexit; atexit.register(print, 'at exit', end='')": (0, "after run\nat exit\n"),
        "sys.stdout.write('loading '); sys.stdout.flush(); print('done')": (
            0,
            "loading done\nafter run\n",
        ),
    }
    found = {}
    for number, source in enumerate(ends):
        async with worker_process(tmp_path / str(number), agent_source(source)) as worker:
            if ends[source][0] == 0:
                await worker.host.start()
                await worker.host.stop()
            code, out, err = await ended(worker)
            found[source] = (code, out)
            assert ("ValueError: no" in err) == ("ValueError" in source)

    assert found == ends


def test_a_process_without_a_host_prints_as_any_other(tmp_path: Path) -> None:
    """Whoever runs the bootstrap by hand sees what the file prints, and its tracebacks."""
    (tmp_path / "entrypoint.py").write_text(
        dedent("""
        import logging, sys
        print(type(sys.stdout).__name__, len(logging.getLogger().handlers))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk.worker.bootstrap", "entrypoint.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "TextIOWrapper 0\n", "")


async def test_the_variables_of_the_host_are_gone_before_the_authors_first_line(
    tmp_path: Path,
) -> None:
    """A child of the author's must not take itself for a worker."""
    body = "import json; print(json.dumps([k for k in os.environ if k.startswith('AGENT_')]))"
    environment = {"AGENT_LOG_LEVEL": "info"}
    async with worker_process(tmp_path / "a", agent_source(body), environment) as worker:
        await worker.host.start()
        await worker.host.stop()
        _, out, _ = await ended(worker)

    assert json.loads(out.splitlines()[0]) == ["AGENT_WORKER_FD"]

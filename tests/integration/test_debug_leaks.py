"""An agent that leaks is found out by ``kos-agent debug`` alone: by type, file and line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.waiting import wait_until

LEAKY = Path(__file__).parent / "leaky"
FILE = "leaks.py"
MIB = 1 << 20
PATIENTLY = ("--seconds", "60")
"""On a machine that is busy with other things."""


@pytest.fixture(scope="module")
def agent() -> Iterator[RunningAgent]:
    """Return the agent, shared by all tests; each looks at leaks of its own."""
    folder = Path(tempfile.mkdtemp(prefix="kos-leaky-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(LEAKY, folder / "leaky", ignore=ignored)
        with running_agent(folder / "leaky") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def debug(agent: RunningAgent, *words: str) -> str:
    """Run one command as a person would; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk", "debug", str(agent.directory), *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(agent: RunningAgent, *words: str) -> Any:
    """Run one command with ``--json``; return the document."""
    return json.loads(debug(agent, *words, "--json"))


def line_of(text: str) -> int:
    """Return the only line of the module that holds a text."""
    lines = (LEAKY / FILE).read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if text in line]
    assert len(found) == 1, text
    return found[0]


def leak(agent: RunningAgent, kind: str, count: int, size: int = 0) -> None:
    """Let it leak."""
    assert agent.call("leak", {"kind": kind, "count": count, "size": size}) == count


def test_leaks_of_python_objects_are_found(agent: RunningAgent) -> None:
    """A growing dictionary, cycles that nobody collects, and buffers that C code holds."""
    debug(agent, "memory", *PATIENTLY)
    debug(agent, "memory", "start")
    leak(agent, "dictionary", 300)
    leak(agent, "cycle", 200)
    leak(agent, "buffer", 4, MIB)
    diff = read(agent, "memory", "diff", "--top", "50")
    debug(agent, "memory", "stop")
    memory = read(agent, "memory", "--top", "50", *PATIENTLY)
    nodes = read(agent, "referrers", "Node", *PATIENTLY)
    cycles = read(agent, "gc", "cycles")

    growth = {part["type"]: part for part in memory["growth"]}
    lines = {(part["file"], part["line"]): part for part in diff["lines"]}
    buffer = f"ctypes.c_char_Array_{MIB}"
    # The dictionary: what is in it, and where that was made.
    assert growth["leaks.Digest"]["count"] == 300
    assert lines[FILE, line_of("text.split()")]["source"] == "self.words = text.split()"
    # The cycle: nothing leads to it; the class, and where it is written.
    assert growth["leaks.Node"]["count"] == 400
    assert (FILE, line_of("one, other = Node(), Node()")) in lines
    assert (nodes["found"], nodes["unreached"], nodes["chains"]) == (400, 400, [])
    (found,) = [part for part in cycles["types"] if part["type"] == "leaks.Node"]
    assert found["has_finalizer"]
    assert (found["count"], found["file"], found["line"]) == (400, FILE, line_of("class Node"))
    # The buffer: its type, and the line that made it, first of all by its size.
    assert growth[buffer]["count"] == 4
    assert growth[buffer]["bytes"] >= 4 * MIB
    assert (diff["lines"][0]["file"], diff["lines"][0]["line"]) == (
        FILE,
        line_of("create_string_buffer"),
    )


def test_why_a_leaked_object_lives_is_told(agent: RunningAgent) -> None:
    """The variable to mend, down from the module or the task."""
    leak(agent, "dictionary", 10)
    answer = agent.request(
        "POST",
        "/v1/tasks",
        {"id": "holder-1", "capability": "hold", "input": {}},
        headers={"Prefer": "respond-async"},
    )
    assert answer.status == 202
    wait_until(lambda: "holding" in debug(agent, "tasks"))
    tasks = debug(agent, "tasks")
    task = debug(agent, "task", "holder")
    referrers = debug(agent, "referrers", "Digest", *PATIENTLY)
    agent.request("POST", "/v1/tasks/holder-1/cancel")

    assert "50% holding  entrypoint.py:" in tasks
    assert "await asyncio.Event().wait()" in task
    assert f"leaks.Digest ({FILE}:{line_of('class Digest')})" in referrers
    assert "module leaks.SEEN" in referrers
    assert "→ dict['document 0']" in referrers
    assert "its local held = leaks.Digest" in referrers


def test_what_c_code_has_taken_shows_as_outside_of_python(agent: RunningAgent) -> None:
    """No tool of Python's sees it: it must at least be known for what it is."""
    debug(agent, "memory", *PATIENTLY)
    leak(agent, "malloc", 32, MIB)
    found = read(agent, "memory", *PATIENTLY)
    before, after = found["process_before"], found["process"]

    assert 30 * MIB <= after["outside_bytes"] - before["outside_bytes"] <= 36 * MIB
    assert after["python_bytes"] - before["python_bytes"] < 2 * MIB


def test_a_profile_comes_out_as_a_file(agent: RunningAgent) -> None:
    """``kos-agent debug . profile 5 --speedscope > profile.json``."""
    document = json.loads(debug(agent, "profile", "0.2", "--speedscope", "--idle"))

    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert sum(len(part["samples"]) for part in document["profiles"]) > 0

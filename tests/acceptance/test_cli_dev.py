"""``kos-agent dev``: save a file, and the agent is new."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.cli import COMMAND, environment
from tests.agents import copy_example
from tests.integration.waiting import wait_until

BROKEN = "import not_there\n"


@dataclass(slots=True)
class Dev:
    """A running ``kos-agent dev``."""

    folder: Path
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def shown(self) -> str:
        """All that it and its host have written."""
        return self.output.read_text(errors="replace")

    @property
    def host(self) -> dict[str, Any]:
        """What the host announces; empty while none listens."""
        try:
            document: dict[str, Any] = json.loads(
                (self.folder / "runtime" / "host.json").read_bytes()
            )
        except (OSError, ValueError):
            return {}
        return document

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has shown a text so many times."""
        wait_until(lambda: self.shown.count(text) >= times or self.process.poll() is not None)
        assert self.shown.count(text) >= times, self.shown

    def wait_ready(self) -> None:
        """Wait until the agent takes tasks."""
        wait_until(lambda: "worker_ready" in self.shown and self._is_ready())

    def _is_ready(self) -> bool:
        if not self.host:
            return False
        try:
            with urllib.request.urlopen(f"{self.host['url'].rstrip('/')}/readyz", timeout=30):
                return True
        except OSError:
            return False  # not yet: what the host before has left is still being read

    def greet(self) -> str:
        """Call the agent."""
        request = urllib.request.Request(
            f"{self.host['url'].rstrip('/')}/v1/capabilities/greet", b'{"name": "Ada"}'
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.loads(answer.read())["text"])

    def change(self, old: str, new: str) -> None:
        """Change the entrypoint as an editor does."""
        path = self.folder / "entrypoint.py"
        path.write_text(path.read_text().replace(old, new))

    def stop(self, number: int = signal.SIGINT) -> int:
        """Type Ctrl-C; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(40)


@contextmanager
def develop(folder: Path) -> Iterator[Dev]:
    """Run ``kos-agent dev`` for the time of the block."""
    output = folder.parent / "dev.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "dev", str(folder), "--port", "0"],
            env=environment({}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Dev(folder, process, output)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the example."""
    return copy_example("hello", tmp_path)


def test_a_saved_file_reloads_the_agent(folder: Path) -> None:
    """The edit, save, try loop of every author, without a restart."""
    with develop(folder) as dev:
        dev.wait_ready()
        before = dev.greet()
        host = dev.host["pid"]
        dev.change("Hello, ", "Good day, ")
        dev.wait_for("dev: reloaded in ")

        assert before == "Hello, Ada!"
        assert dev.greet() == "Good day, Ada!"
        assert "dev: changed: entrypoint.py" in dev.shown
        assert "generation 2" in dev.shown
        assert dev.host["pid"] == host
        assert dev.stop() == 0
        assert not psutil.pid_exists(host)
        assert dev.host == {}


def test_a_broken_file_leaves_the_agent_running_and_shows_why(folder: Path) -> None:
    """Typing errors are the normal case while one writes."""
    with develop(folder) as dev:
        dev.wait_ready()
        dev.change("from pydantic", BROKEN + "from pydantic")
        dev.wait_for("worker 0 of the new generation ended before it was ready (exit code 1)")
        dev.wait_for("No module named 'not_there'", times=2)  # the worker's own words, and ours
        assert dev.greet() == "Hello, Ada!"
        dev.change(BROKEN, "")
        dev.wait_for("dev: reloaded in ")

        assert dev.greet() == "Hello, Ada!"
        assert dev.stop() == 0


def test_what_the_agent_writes_itself_reloads_nothing(folder: Path) -> None:
    """Or it would reload for ever."""
    with develop(folder) as dev:
        dev.wait_ready()
        (folder / "runtime" / "data" / "x").write_text("x")
        (folder / ".hidden").write_text("x")
        (folder / "logs" / "other.log").write_text("x")
        (folder / "noted.txt").write_text("x")
        dev.wait_for("dev: reloaded in ")

        assert "dev: changed: noted.txt\n" in dev.shown
        assert dev.shown.count("reload_started") == 1
        assert dev.stop(signal.SIGTERM) == 0


def test_an_agent_that_cannot_start_is_tried_again_with_the_next_change(folder: Path) -> None:
    """The very first attempt is the likeliest to fail."""
    (folder / "config.yaml").write_text("nmae: hello\n")
    with develop(folder) as dev:
        dev.wait_for("the agent ended with exit code 78; it starts again with the next change")
        assert "did you mean name?" in dev.shown
        (folder / "config.yaml").write_text("name: hello\n")
        dev.wait_ready()

        assert "dev: changed: config.yaml" in dev.shown
        assert dev.greet() == "Hello, Ada!"
        assert dev.stop() == 0


def test_ctrl_c_while_nothing_runs_ends_with_the_last_exit_code(folder: Path) -> None:
    """A script around it learns that the agent never came up."""
    (folder / "config.yaml").write_text("nmae: hello\n")
    with develop(folder) as dev:
        dev.wait_for("it starts again with the next change")

        assert dev.stop() == 78


def test_the_host_does_not_outlive_it(folder: Path) -> None:
    """Even when it is killed no orphan keeps the port."""
    with develop(folder) as dev:
        dev.wait_ready()
        host = dev.host["pid"]
        os.kill(dev.process.pid, signal.SIGKILL)
        dev.process.wait(10)

        wait_until(lambda: not psutil.pid_exists(host) or is_zombie(host), 40)
        assert dev.host == {}


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody collected it, as in a container without an init."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

"""Run the commands of a debug session in the process of the tests, as the server would."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from kagent_sdk.debug.commands import make_commands
from kagent_sdk.debug.port import LoopView, Session, TaskView


@dataclass
class FakeInspected:
    """A worker with what a test puts into it."""

    loop: asyncio.AbstractEventLoop
    agent: object = None
    running: tuple[TaskView, ...] = ()
    author_loops: tuple[LoopView, ...] = ()
    names: tuple[str, ...] = ()
    values: dict[str, object] = field(default_factory=dict)
    level: str = ""

    def tasks(self) -> tuple[TaskView, ...]:
        """Return what runs."""
        return self.running

    def loops(self) -> tuple[LoopView, ...]:
        """Return the loops."""
        return self.author_loops

    def secret_names(self) -> tuple[str, ...]:
        """Return the names."""
        return self.names

    async def state(self, key: str) -> object:
        """Return a value."""
        assert asyncio.get_running_loop() is self.loop
        return self.values[key]

    def set_log_level(self, level: str) -> None:
        """Note the level."""
        self.level = level

    def redact(self, text: str) -> str:
        """Know one secret."""
        return text.replace("hunter2", "[redacted]")


@dataclass
class Console:
    """Runs commands, one after another, with one memory."""

    inspected: FakeInspected
    memory: dict[str, Any] = field(default_factory=dict)
    is_over: Callable[[], bool] = lambda: False

    def run(self, *words: str, width: int = 200) -> str:
        """Run a command; return what it printed. Click's errors pass."""
        command = next(part for part in make_commands() if part.name == words[0])
        out = io.StringIO()
        session = Session(self.inspected, out, self.memory, width, self.is_over)
        command.main(list(words[1:]), prog_name=words[0], standalone_mode=False, obj=session)
        return out.getvalue()

    def read(self, *words: str) -> Any:
        """Run a command with ``--json``; return the document."""
        return json.loads(self.run(*words, "--json"))

    async def run_beside(self, *words: str) -> str:
        """Run a command in a thread, while the loop goes on."""
        return await asyncio.to_thread(self.run, *words)


def make_console(**values: Any) -> Console:
    """Return a console to a fake worker in the running loop, or in none that runs."""
    try:
        loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
    except RuntimeError:
        loop = cast("asyncio.AbstractEventLoop", object())  # nothing is asked of it
    return Console(FakeInspected(loop, **values))

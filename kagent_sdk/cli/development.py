"""The loop behind ``kos-agent dev``: a host as a child process, reloaded when a file changes.

The host is the very one of ``kos-agent run``: what works here works there. It has a process group
of its own, so that a Ctrl-C reaches it once, through this process; and it ends with this process,
however that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

import click
from watchfiles import awatch

from kagent_sdk.cli.boundary import color_choice, say_error
from kagent_sdk.cli.changes import describe_changes, is_authors
from kagent_sdk.cli.client import AgentClient
from kagent_sdk.cli.location import HOST_FILE, local_target
from kagent_sdk.cli.problems import ProblemError
from kagent_sdk.cli.target import Credentials
from kagent_sdk.cli.text import clean, clean_line, format_duration
from kagent_sdk.errors import KagentError

DEBOUNCE_MS = 1000
QUIET_MS = 100
"""An editor saves in several steps, a checkout in hundreds: wait for so long a silence, at most for
the other."""

HOST_LOOK_S = 0.1
"""How often to look whether a host that starts has announced itself yet."""

RELOAD_TIMEOUT_S = 3600.0
"""The host bounds a reload by ``worker.start_timeout_s``; this is for a host that hangs."""

LAST_BREATH_S = 2.0
"""A host that broke off the reload is about to end: then the change is for the next one."""

MAX_TRACE_LINES = 15


class Development:
    """Runs the agent in a folder, reloads it when a file changes, and starts it again if it ended.

    Args:
        folder: the agent's, absolute.
        words: what ``kos-agent run`` is given.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self._folder = folder
        self._words = words
        self._host: asyncio.subprocess.Process | None = None
        self._changed: set[PurePath] = set()
        self._change = asyncio.Event()
        self._stop = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Go on until Ctrl-C or SIGTERM; return the exit code of the last host."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._pass_on, number)
        watcher = loop.create_task(self._watch())
        try:
            while not self._stop.is_set():
                await self._live_through_one_host()
                if self._stop.is_set():
                    break
                _say(
                    f"the agent ended with exit code {self._exit_code}; "
                    "it starts again with the next change",
                    "yellow",
                )
                await self._wait_for_change()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        return self._exit_code

    def _pass_on(self, number: signal.Signals) -> None:
        self._stop.set()
        if self._host is not None and self._host.returncode is None:
            self._host.send_signal(number)

    async def _watch(self) -> None:
        async for batch in awatch(
            self._folder,
            watch_filter=lambda _, path: is_authors(Path(path).relative_to(self._folder)),
            debounce=DEBOUNCE_MS,
            step=QUIET_MS,
        ):
            self._changed |= {Path(path).relative_to(self._folder) for _, path in batch}
            self._change.set()

    # One host

    async def _live_through_one_host(self) -> None:
        self._take_changes()
        self._host = host = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kagent_sdk.cli.tethered", "run", *self._words),
            stdin=asyncio.subprocess.DEVNULL,
            process_group=0,
        )
        if self._stop.is_set():
            self._pass_on(signal.SIGTERM)  # it came while the process was being made
        ended = asyncio.create_task(host.wait())
        try:
            while not ended.done():
                changed = asyncio.create_task(self._change.wait())
                await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not ended.done() and self._change.is_set() and not self._stop.is_set():
                    await self._reload(ended)
                elif self._stop.is_set():
                    await ended
        finally:
            code = await ended
        self._exit_code = code if code >= 0 else 128 - code

    async def _reload(self, ended: asyncio.Task[int]) -> None:
        self._tell_changes()
        while not (self._is_announced() or ended.done() or self._stop.is_set()):
            await asyncio.wait({ended}, timeout=HOST_LOOK_S)
        if ended.done() or self._stop.is_set():
            self._change.set()  # the next host is to start for it
            return
        try:
            await asyncio.to_thread(_reload, self._folder)
        except KagentError as exc:
            if self._stop.is_set():
                return
            say_error(clean(exc))
            await asyncio.wait({ended}, timeout=LAST_BREATH_S)
            if ended.done():
                self._change.set()

    def _tell_changes(self) -> None:
        if self._changed:
            _say(f"changed: {clean_line(describe_changes(self._changed))}", "cyan")
        self._take_changes()

    def _take_changes(self) -> None:
        self._changed.clear()
        self._change.clear()

    def _is_announced(self) -> bool:
        """Whether our own host listens; another one's file in this folder does not count."""
        assert self._host is not None
        try:
            document = json.loads((self._folder / HOST_FILE).read_bytes())
            return bool(document["pid"] == self._host.pid)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    async def _wait_for_change(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._change, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._stop.is_set():
            self._tell_changes()


def _reload(folder: Path) -> None:
    """Reload the agent and say what came of it; blocks until then.

    Raises:
        UnreachableError: it went away meanwhile.
    """
    client = AgentClient(local_target(folder, Credentials(), os.environ))
    answer = client.request("POST", "/v1/reload", timeout_s=RELOAD_TIMEOUT_S)
    try:
        document = client.answered(answer)
    except ProblemError as exc:
        say_error(clean(exc))
        _show_traceback(client)
        return
    last = document.get("last") or {}
    took = format_duration(last.get("took_s"))
    _say(f"reloaded in {took}: generation {document.get('generation')}", "green")
    for key in last.get("needs_restart", ()):
        _say(f"{clean_line(key)} was changed, and takes effect with a restart alone", "yellow")


def _show_traceback(client: AgentClient) -> None:
    last = client.get("/status").get("reload", {}).get("last") or {}
    lines = str(last.get("traceback") or "").splitlines()[-MAX_TRACE_LINES:]
    if lines:
        click.echo(clean("\n".join(lines)), err=True)


def _say(text: str, colour: str) -> None:
    click.secho(f"dev: {text}", err=True, fg=colour, color=color_choice())

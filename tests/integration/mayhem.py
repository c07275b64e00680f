"""A killer of hosts and workers, who restarts what he has killed and looks at what it left behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.agents import RunningAgent, start_agent
from tests.integration.waiting import POLL_S, wait_until

KINDS = {"worker": 5, "workers": 1, "host": 4, "both": 2, "groups": 1}
"""One worker, all of them, the host, the host and one worker, and all process groups at once."""

WORKER_KINDS = frozenset({"worker", "workers"})
EARLY_SHARE = 0.2
"""How many hosts are killed again before they are ready, while they recover."""

LAST_KILL_AFTER_S = 0.8
SIDE_FILES = ("", "-wal")
"""Of a database that nobody has open; ``-shm`` is made anew from them (sqlite.org/walformat.html)."""


ORPHANS = (
    "SELECT id FROM tasks WHERE manifest NOT IN (SELECT id FROM manifests)",
    "SELECT task, id FROM events WHERE task NOT IN (SELECT seq FROM tasks)",
)
"""What refers to something that is not there."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One act of violence.

    Attributes:
        kind: one of `KINDS`.
        is_early: the host was not ready yet.
        pids: processes that were killed and are gone.
        working: ids of the tasks that the journal called running when the host was dead.
        queued: how many tasks were waiting then.
    """

    kind: str
    is_early: bool
    pids: tuple[int, ...]
    working: frozenset[str] = frozenset()
    queued: int = 0


class Site:
    """An agent's folder and the host that it has at present.

    Args:
        directory: the agent's folder.
        env: for every host.
    """

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.directory = directory
        self._env = env
        self.agent = start_agent(directory, env=env)

    @property
    def journal(self) -> Path:
        """The agent's database."""
        return self.directory / "runtime" / "journal.db"

    async def find_url(self) -> str:
        """Return the base URL of the host; wait while there is none."""
        while True:
            with suppress(OSError, ValueError, KeyError):
                note = json.loads((self.directory / "runtime" / "host.json").read_bytes())
                if note["pid"] == self.agent.pid:
                    return str(note["url"]).rstrip("/")
            await asyncio.sleep(POLL_S)

    def restart(self) -> None:
        """Start another host on the folder, at once."""
        self.agent = start_agent(self.directory, env=self._env)

    def worker_pids(self) -> list[int]:
        """Return the workers of the present host."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.agent.pid).children()]
        return []


class Killer:
    """Kills at moments that a seed decides.

    Args:
        site: the scene.
        seed: of all decisions.
        cycles: how many kills.

    Attributes:
        kills: what was done.
    """

    def __init__(self, site: Site, *, seed: int, cycles: int) -> None:
        self._site = site
        self._chance = random.Random(seed)  # noqa: S311 - a plan of kills, no secret
        self._plan = self._choose_kinds(cycles)
        self._is_called_off = threading.Event()
        self.kills: list[Kill] = []

    def call_off(self) -> None:
        """Let `run` end before its plan is done; for the end of a test that failed."""
        self._is_called_off.set()

    def _choose_kinds(self, cycles: int) -> list[str]:
        """Return every kind at least once, and the rest by weight."""
        more = self._chance.choices([*KINDS], [*KINDS.values()], k=max(0, cycles - len(KINDS)))
        plan = [*KINDS, *more][:cycles]
        self._chance.shuffle(plan)
        return plan

    def run(self) -> None:
        """Kill as planned; leave a host that is ready. Blocks: run it in a thread."""
        was_restarted = False
        for number, kind in enumerate(self._plan):
            is_early = (
                was_restarted and kind not in WORKER_KINDS and (self._chance.random() < EARLY_SHARE)
            )
            if not is_early:
                self._site.agent.wait_ready()
            if self._is_called_off.wait(self._chance.uniform(0, LAST_KILL_AFTER_S)):
                return
            if kind in WORKER_KINDS:
                self.kills.append(self._kill_workers(kind))
            else:
                self.kills.append(self._kill_host(kind, is_early=is_early))
            was_restarted = kind not in WORKER_KINDS
            sys.stderr.write(
                f"cycle {number + 1} of {len(self._plan)}: {describe(self.kills[-1])}\n"
            )
        self._site.agent.wait_ready()

    def _kill_workers(self, kind: str) -> Kill:
        victims = self._site.worker_pids()
        assert victims, "a host that is ready has workers"
        if kind == "worker":
            victims = [self._chance.choice(victims)]
        kill_all(victims)
        wait_until(lambda: not any(is_alive(pid) for pid in victims))
        with closing(connect_reader(self._site.journal)) as connection:
            check_integrity(connection)
        return Kill(kind, is_early=False, pids=tuple(victims))

    def _kill_host(self, kind: str, *, is_early: bool) -> Kill:
        host = self._site.agent
        workers = self._site.worker_pids()
        victims = [host.pid]
        if kind == "both" and workers:
            victims.append(self._chance.choice(workers))
            self._chance.shuffle(victims)
        if kind == "groups":
            kill_groups([host.pid, *workers])
        else:
            kill_all(victims)
        code = host.wait()
        assert code == -signal.SIGKILL, f"the host ended by itself, with {code}\n{host.log_text}"
        # Workers die with their host; one that goes on would be seen in what is checked below.
        with copied(self._site.journal) as copy:
            self._site.restart()
            working, queued = look_into(copy)
        return Kill(kind, is_early, (host.pid, *workers), working, queued)


def kill_all(pids: list[int]) -> None:
    """Send SIGKILL to each, whoever is gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_groups(pids: list[int]) -> None:
    """Send SIGKILL to the process groups that these lead; never to the test's own."""
    for pid in pids:
        with suppress(ProcessLookupError):
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and not collected yet does not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def copied(journal: Path) -> Iterator[Path | None]:
    """Copy a database that nobody has open; None when there is none yet."""
    with tempfile.TemporaryDirectory(prefix="journal-") as folder:
        copy = Path(folder) / journal.name
        for ending in SIDE_FILES:
            file = journal.with_name(journal.name + ending)
            if file.exists():
                shutil.copyfile(file, copy.with_name(copy.name + ending))
        yield copy if copy.exists() else None


def look_into(copy: Path | None) -> tuple[frozenset[str], int]:
    """Check the copy of a dead host's journal; return the running tasks and how many waited."""
    if copy is None:
        return frozenset(), 0
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return frozenset(), 0  # killed before it had made the tables
        check_integrity(connection)
        rows = connection.execute(
            "SELECT id, state FROM tasks WHERE finished_at IS NULL"
        ).fetchall()
    working = frozenset(task_id for task_id, state in rows if state == "working")
    return working, len(rows) - len(working)


def connect_reader(journal: Path) -> sqlite3.Connection:
    """Open a database that a living host writes, to read it."""
    return sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True, timeout=10)


def check_integrity(connection: sqlite3.Connection) -> None:
    """Fail when a page or an index of the database is broken, or a row stands for nothing."""
    verdict = connection.execute("PRAGMA integrity_check").fetchall()
    assert verdict == [("ok",)], verdict
    for query in ORPHANS:
        assert connection.execute(query).fetchall() == [], query


def describe(kill: Kill) -> str:
    """Say in a few words what was done."""
    moment = "while it started" if kill.is_early else "while it was at work"
    journal = "" if kill.kind in WORKER_KINDS else f", {len(kill.working)} running in the journal"
    return f"{kill.kind} {moment}{journal}"


def stop(site: Site) -> int:
    """Stop the site's host with SIGTERM and return its exit code; nothing of it is left."""
    agent: RunningAgent = site.agent
    code = agent.stop()
    agent.assert_nothing_left()
    return code

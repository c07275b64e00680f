"""Measurements of our agent's journal and state; `durability.py` takes turns with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rig.contenders import OURS
from rig.cores import Cores, pinned
from rig.environments import BENCHMARKS
from rig.processes import START_TIMEOUT_S, Server, ServerError, tree_memory
from rig.statistics import percentile
from rig.wire import BadAnswerError, build_request, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEYS = 100
VALUE_BYTES = 200
ANSWER_TIMEOUT_S = 120.0
POLL_S = 0.001
SETTLED_AFTER_S = 10.0
"""Of a file that shrinks in steps: tasks are forgotten some at a time."""
JOURNAL = Path("runtime") / "journal.db"
EXPORT = Path("runtime") / "memory_store.json"
DRAFT = Path("runtime") / "memory_store.json.tmp"

KEEP_ALL = {
    "AGENT_TASKS__RETENTION_S": "1000000",
    "AGENT_TASKS__RETENTION_COUNT": "10000000",
    "AGENT_TASKS__RETENTION_BYTES": str(64 * 1024**3),
}


def fill_journal(folder: Path, *, tasks: int, keys: int) -> Path:
    """Make a journal of finished tasks and keys of the state; return the file."""
    path = folder / f"filled-{tasks}-{keys}.db"
    python = str(OURS.environment.python)
    command = [python, "-m", "rig.journals", str(path), str(tasks), str(keys)]
    subprocess.run(command, cwd=BENCHMARKS, check=True)
    return path


def place_journal(journal: Path | None, agent: Path) -> None:
    """Give an agent a copy of a journal before its start; none is an agent that is new."""
    if journal is not None:
        (agent / "runtime").mkdir()
        shutil.copyfile(journal, agent / JOURNAL)


@dataclass(slots=True)
class Found:
    """What the rounds gave for one state; index = round.

    Attributes:
        sets_us: medians of a change that is acknowledged.
        slow_sets_us: their 99th percentiles.
        gets_us, slow_gets_us: the same of a look.
        memory_mb: of the host alone (PSS).
        export_s: what writing the readable file took.
    """

    sets_us: list[float] = field(default_factory=list)
    slow_sets_us: list[float] = field(default_factory=list)
    gets_us: list[float] = field(default_factory=list)
    slow_gets_us: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    export_s: list[float] = field(default_factory=list)

    def take_sets(self, taken_us: list[float]) -> None:
        """Note the times of one round's changes."""
        self.sets_us.append(percentile(taken_us, 0.5))
        self.slow_sets_us.append(percentile(taken_us, 0.99))

    def take_gets(self, taken_us: list[float]) -> None:
        """Note the times of one round's looks."""
        self.gets_us.append(percentile(taken_us, 0.5))
        self.slow_gets_us.append(percentile(taken_us, 0.99))


@dataclass(frozen=True, slots=True)
class StateRunner:
    """An agent whose state is measured, and what was found of it."""

    server: Server
    found: Found

    def take_turn(self, count: int) -> None:
        """Measure changes, then looks."""
        size = {"count": count, "keys": KEYS}
        self.found.take_sets(call(self.server, "time_sets", {**size, "size": VALUE_BYTES}))
        self.found.take_gets(call(self.server, "time_gets", size))
        self.found.memory_mb.append(tree_memory(self.server.pids()[:1]).pss)


@contextmanager
def serve_state(
    cores: Cores, settings: Mapping[str, str], journal: Path | None = None
) -> Iterator[StateRunner]:
    """Start an agent with a state, and time its first export if it is not empty."""
    found = Found()
    folders: list[Path] = []

    def prepare(agent: Path) -> None:
        place_journal(journal, agent)
        folders.append(agent)

    with OURS.serve("memory", core=cores.server, settings=settings, prepare=prepare) as server:
        if journal is not None:
            found.export_s.append(time_export(folders[0]))
        server.wait_until_ok(OURS.ready_path)
        yield StateRunner(server, found)


def time_export(agent: Path) -> float:
    """Wait until an agent has written its readable file; return how long it wrote.

    Raises:
        ServerError: it has not within `START_TIMEOUT_S`.
    """
    give_up_at = time.perf_counter() + START_TIMEOUT_S
    began: float | None = None
    while not (agent / EXPORT).exists():
        now = time.perf_counter()
        if began is None and (agent / DRAFT).exists():
            began = now
        if now > give_up_at:
            raise ServerError(f"no {EXPORT} after {START_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
    return time.perf_counter() - began if began is not None else POLL_S


def call(server: Server, capability: str, input: Mapping[str, int]) -> list[float]:
    """Have the agent take the times of its own steps, in microseconds.

    Raises:
        BadAnswerError: it did not.
    """
    path = f"/v1/capabilities/{capability}"
    request = build_request("POST", path, json.dumps(dict(input)).encode())
    answer = exchange(server.port, request, timeout_s=ANSWER_TIMEOUT_S)
    times = json.loads(answer.body)
    if answer.status != 200 or len(times) != input["count"]:
        raise BadAnswerError(f"{capability} answered {answer.body[:500]!r}")
    return [float(item) for item in times]


def time_bare_commits(cores: Cores, mode: str, count: int) -> list[float]:
    """Let SQLite alone do as many changes, on the same core and disk; return microseconds."""
    with tempfile.TemporaryDirectory(prefix="kagent-benchmark-") as scratch, pinned(cores.server):
        numbers = map(str, (count, KEYS, VALUE_BYTES))
        done = subprocess.run(
            [
                str(OURS.environment.python),
                "-m",
                "rig.commits",
                f"{scratch}/bare.db",
                mode,
                *numbers,
            ],
            cwd=BENCHMARKS,
            check=True,
            stdout=subprocess.PIPE,
        )
    return [float(item) for item in json.loads(done.stdout)]


def time_start(cores: Cores, journal: Path | None) -> float:
    """Return how many milliseconds an agent takes from its spawn to ready, with a journal."""
    prepare = partial(place_journal, journal)
    with OURS.serve("digest", core=None, settings=KEEP_ALL, prepare=prepare) as server:
        with pinned(cores.load):
            took_s = server.wait_until_ok(OURS.ready_path)
        server.kill()
    return took_s * 1000


def size_after_retention(
    cores: Cores, journal: Path, keep: int, within_s: float
) -> tuple[int, int]:
    """Let an agent forget most of a journal; return the file's bytes before and after.

    The size is that of the file when it no longer shrinks, or when the time is over.
    """
    folders: list[Path] = []

    def prepare(agent: Path) -> None:
        place_journal(journal, agent)
        folders.append(agent)

    settings = {**KEEP_ALL, "AGENT_TASKS__RETENTION_COUNT": str(keep)}
    with OURS.serve("digest", core=cores.server, settings=settings, prepare=prepare) as server:
        server.wait_until_ok(OURS.ready_path)
        path = folders[0] / JOURNAL
        give_up_at = time.perf_counter() + within_s
        smallest, changed_at = path.stat().st_size, None
        while (now := time.perf_counter()) < give_up_at:
            size = path.stat().st_size
            if size < smallest:
                smallest, changed_at = size, now
            if changed_at is not None and now > changed_at + SETTLED_AFTER_S:
                break
            time.sleep(0.05)
    return journal.stat().st_size, smallest

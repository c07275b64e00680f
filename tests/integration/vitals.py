"""What a host holds: memory, descriptors, children; and whether it came through a torment unharmed."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.agents import RunningAgent

MEBIBYTE = 1024 * 1024
MEMORY_SLACK_BYTES = 16 * MEBIBYTE
"""The allocator does not give every page back, and one sample may meet a collector's pause."""

SETTLE_S = 60.0
PROBE_EVERY_S = 0.05
PROBE_DEADLINE_S = 20.0
"""A probe must answer; how fast is for the benchmarks to say, not for two noisy cores."""

_OWN_TROUBLE = re.compile(
    r"request_failed|was never retrieved|Unhandled exception|Exception in callback"
    r"|Error handling request|/kagent_sdk/host/.*, line \d+|/aiohttp/.*, line \d+"
)
"""What a host logs when something of its own went wrong; the author's tracebacks are none of it."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """A host's process at one moment."""

    memory_bytes: int
    descriptors: int
    threads: int


def take_vitals(agent: RunningAgent) -> Vitals:
    """Measure the host; memory is what it holds alone (USS)."""
    process = psutil.Process(agent.pid)
    with process.oneshot():
        return Vitals(process.memory_full_info().uss, process.num_fds(), process.num_threads())


def open_tasks(agent: RunningAgent) -> int:
    """Return how many tasks wait or run."""
    tasks = agent.status()["tasks"]
    return int(tasks["working"]) + int(tasks["queued"])


def assert_settles(
    agent: RunningAgent, before: Vitals, *, slack_bytes: int = MEMORY_SLACK_BYTES
) -> Vitals:
    """Wait until no task is open and the host holds what it held ``before``; return what it holds.

    Fails when that does not come about within `SETTLE_S`, or when a zombie is left.
    """
    give_up_at = time.monotonic() + SETTLE_S
    while True:
        left, now = open_tasks(agent), take_vitals(agent)
        is_settled = (
            left == 0
            and now.descriptors <= before.descriptors
            and now.memory_bytes <= before.memory_bytes + slack_bytes
            and not zombies(agent)
        )
        if is_settled:
            return now
        assert time.monotonic() < give_up_at, (left, before, now, zombies(agent))
        time.sleep(0.1)


def zombies(agent: RunningAgent) -> list[int]:
    """Return the process ids of the host's dead children that nobody collected."""
    found = []
    for child in psutil.Process(agent.pid).children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def assert_calm(agent: RunningAgent) -> None:
    """Fail when the host's log tells of an error of its own."""
    text = agent.log_text
    found = _OWN_TROUBLE.search(text)
    assert found is None, text[max(0, found.start() - 2000) : found.end() + 4000]


@contextmanager
def unharmed(
    agent: RunningAgent,
    *,
    slack_bytes: int = MEMORY_SLACK_BYTES,
    may_be_stuck: bool = False,
) -> Iterator[Vitals]:
    """Torment the agent in the block: it must answer probes throughout and be as before after.

    Args:
        agent: to be watched.
        slack_bytes: by how much its memory may differ.
        may_be_stuck: probes may be answered with 503: a stuck worker is found out and replaced.
    """
    before = take_vitals(agent)
    with answered_probes(agent, frozenset({200, 503}) if may_be_stuck else frozenset({200})):
        yield before
    assert_settles(agent, before, slack_bytes=slack_bytes)
    assert_calm(agent)


@contextmanager
def answered_probes(agent: RunningAgent, statuses: frozenset[int]) -> Iterator[None]:
    """Ask ``/healthz`` all through the block; fail when an answer is missing or another one."""
    wrong: list[str] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(PROBE_EVERY_S):
            try:
                url = f"{agent.url}/healthz"
                with urllib.request.urlopen(url, timeout=PROBE_DEADLINE_S) as answer:
                    answer.read()
            except OSError as exc:
                if not (isinstance(exc, urllib.error.HTTPError) and exc.code in statuses):
                    wrong.append(repr(exc))

    prober = threading.Thread(target=probe, name="prober")
    prober.start()
    try:
        yield
    finally:
        stop.set()
        prober.join()
    assert not wrong, wrong[:5]


@contextmanager
def watched_memory(agent: RunningAgent) -> Iterator[list[int]]:
    """Sample the host's resident memory all through the block; the list's maximum is the peak."""
    process = psutil.Process(agent.pid)
    samples = [process.memory_info().rss]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.02):
            samples.append(process.memory_info().rss)

    sampler = threading.Thread(target=sample, name="sampler")
    sampler.start()
    try:
        yield samples
    finally:
        stop.set()
        sampler.join()

"""Profiles, with a clock of the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kagent_sdk.debug.port import TaskView
from kagent_sdk.debug.probes import sampling
from kagent_sdk.debug.probes.profiles import collapsed, hottest_path, speedscope, top_lines
from kagent_sdk.debug.probes.sampling import Profile, Sampler
from kagent_sdk.debug.probes.stacks import Place
from tests.unit.debug.sessions import make_console

OUTER, LEFT, RIGHT = (Place(f"/a/{name}.py", 1, name) for name in ("outer", "left", "right"))


class Clock:
    """A clock whose waits last as long as the test says."""

    def __init__(self, *waits_s: float) -> None:
        self.now_s = 0.0
        self._waits = iter(waits_s)

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s

    def wait(self, seconds: float) -> None:
        """Let as much time pass as the next wait takes."""
        self.now_s += next(self._waits, seconds)


@pytest.fixture
def spinner() -> Iterator[threading.Thread]:
    """Yield a thread that is always busy."""
    stop, begun = threading.Event(), threading.Event()

    def spin() -> None:
        begun.set()
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin, name="spinner")
    thread.start()
    begun.wait()
    yield thread
    stop.set()
    thread.join()


@pytest.mark.usefixtures("spinner")
def test_the_time_of_a_gap_counts() -> None:
    """C code that keeps the interpreter would be invisible otherwise."""
    clock = Clock(0.1, 0.55, 0.1)
    sampler = Sampler(make_console().inspected, 10)
    profile = sampler.run(0.7, lambda: False, clock=clock, wait=clock.wait)

    assert profile.looks == 3
    assert profile.missed == 4
    assert profile.longest_gap_s == pytest.approx(0.55)
    assert profile.took_s == pytest.approx(0.75)
    assert sum(profile.seconds["thread spinner"].values()) == pytest.approx(0.75)


def test_time_is_given_to_the_task(spinner: threading.Thread) -> None:
    """Threads of a pool all look alike."""
    task = TaskView("01ABC", "digest", 1, "working", 0.0, None, None, spinner.ident)
    sampler = Sampler(make_console(running=(task,)).inspected, 10)
    sampler.look(1.0)

    assert "task 01ABC (digest)" in sampler.profile.seconds


async def test_time_of_the_loop_is_given_to_the_job_that_runs() -> None:
    """All tasks share one thread."""
    me = asyncio.current_task()
    task = TaskView("01ABC", "digest", 1, "working", 0.0, None, me)
    for running, name in ((), "job "), ((task,), "task 01ABC (digest)"):
        sampler = Sampler(make_console(running=running).inspected, 10)
        looker = threading.Thread(target=sampler.look, args=(1.0,))
        looker.start()
        looker.join()
        waits = [*sampler.profile.seconds, *sampler.profile.idle_s]
        assert any(who.startswith(name) for who in waits)


def test_waiting_is_no_work() -> None:
    """An agent that does nothing has an empty profile."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="waiter")
    thread.start()
    quiet, full = (Sampler(make_console().inspected, 10, with_idle=flag) for flag in (False, True))
    quiet.look(1.0)
    full.look(1.0)
    gate.set()
    thread.join()

    assert "thread waiter" not in quiet.profile.seconds
    assert quiet.profile.idle_s["thread waiter"] == 1.0
    assert "thread waiter" in full.profile.seconds


@pytest.mark.usefixtures("spinner")
def test_different_stacks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long profile of deep recursion must not fill the memory."""
    monkeypatch.setattr(sampling, "MAX_STACKS", 0)
    sampler = Sampler(make_console().inspected, 10)
    sampler.look(1.0)

    assert list(sampler.profile.seconds["thread spinner"]) == [(sampling.OTHER,)]


@pytest.fixture
def profile() -> Profile:
    """Return a profile of two who ran."""
    stacks = {(OUTER, LEFT): 3.0, (OUTER, RIGHT): 1.0, (OUTER,): 0.5}
    return Profile(100, seconds={"job a;b": stacks, "thread t": {(RIGHT,): 0.25}})


def test_own_time_and_time_below_are_told_apart(profile: Profile) -> None:
    """The line that works, and the line that had it done."""
    assert top_lines(profile, 3) == [(LEFT, 3.0, 3.0), (RIGHT, 1.25, 1.25), (OUTER, 0.5, 4.5)]
    assert profile.busy_s == 4.75


def test_the_hottest_path_is_followed(profile: Profile) -> None:
    """From who ran down to the line."""
    assert hottest_path(profile) == [("job a;b", 4.5), (str(OUTER), 4.5), (str(LEFT), 3.0)]
    assert hottest_path(Profile(100)) == []
    thin = Profile(100, seconds={"t": {(Place("/a", n, "f"),): 1.0 for n in range(11)}})
    assert hottest_path(thin) == [("t", 11.0)]


def test_the_formats_agree(profile: Profile) -> None:
    """One profile, two tools."""
    document = speedscope(profile, "name")

    assert [part["name"] for part in document["profiles"]] == ["job a;b", "thread t"]
    assert document["profiles"][0]["samples"] == [[0, 1], [0, 2], [0]]
    assert document["profiles"][0]["weights"] == [3.0, 1.0, 0.5]
    assert [frame["name"] for frame in document["shared"]["frames"]] == ["outer", "left", "right"]
    assert next(collapsed(profile)) == "job a:b;outer (/a/outer.py:1);left (/a/left.py:1) 3000"

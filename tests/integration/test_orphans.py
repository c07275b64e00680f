"""What tasks have left running ends with the agent; what was there before does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from kagent_sdk.host import children as module
from kagent_sdk.host.children import Children

PROGRAM = """
import ctypes, os, subprocess, sys
from kagent_sdk.host.orphans import end_orphans, find_children

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, as the host does
spared = subprocess.Popen(["sleep", "60"])
before = find_children()
# Leaves its parent, its group and its session, and has a child of its own.
code = "import os, subprocess; os.setsid(); subprocess.Popen(['sleep', '60']); print(os.getpid())"
subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
left = find_children() - before
ended = end_orphans(before)
print(len(left), ended, find_children() == before, spared.poll())
spared.kill()
spared.wait()
"""


def test_what_has_left_its_group_is_ended_and_what_was_there_before_is_not() -> None:
    """A shell may start a program beside the agent, and hand its place over to it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.split() == ["1", "1", "True", "None"]


async def test_a_child_that_another_thread_has_waited_for_is_nobodys_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The audit waits for its probe in a thread: between the host's look and its wait it is gone."""
    collected = asyncio.Event()
    look = module._next_zombie

    def look_and_lose() -> int | None:
        found = look()
        if found == child.pid:
            assert child.wait() == 0
            collected.set()
        return found

    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    monkeypatch.setattr(module, "_next_zombie", look_and_lose)
    children = Children()
    children.start()
    try:
        child = _start_child()
        await asyncio.wait_for(collected.wait(), timeout=60)
        await asyncio.sleep(0)
    finally:
        children.close()

    assert complaints == []
    assert children.reaped == 0


def _start_child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "0.2"])

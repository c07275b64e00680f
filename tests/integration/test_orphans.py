"""What tasks have left running ends with the agent; what was there before does not."""

from __future__ import annotations

import subprocess
import sys

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

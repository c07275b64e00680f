"""The filter in the kernel: what it refuses succeeds without it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from kagent_sdk.sandbox.seccomp.kernel import running_architecture
from tests.integration.syscalls.run import attempts

pytestmark = pytest.mark.skipif(
    running_architecture() is None, reason="platform: no seccomp filter for this machine"
)

ABSENT = {"clone_by_structure", "open_by_structure"}
KILLED = {"call_by_interrupt"}

NOT_HERE = {-errno.ENOSYS, -errno.EAFNOSUPPORT, -errno.EPROTONOSUPPORT}


def run(module: str) -> str:
    """Run one of our modules in an interpreter of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.integration.syscalls.{module}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[int, int]]:
    """Make all attempts once; return how each ended outside and inside."""
    return {name: (outside, inside) for name, (outside, inside) in json.loads(run("run")).items()}


@pytest.mark.parametrize("name", attempts())
def test_what_succeeds_outside_is_refused_inside(
    name: str, made: dict[str, tuple[int, int]]
) -> None:
    """A refusal proves something only when the same call would have gone through."""
    outside, inside = made[name]
    if outside in {errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
        pytest.skip(f"platform: the kernel has nothing to refuse: {os.strerror(outside)}")
    if outside == errno.EPERM and os.geteuid() != 0:
        pytest.skip("platform: outside too, it is for root alone")
    if name in KILLED and outside == -signal.SIGSEGV:
        pytest.skip("platform: the kernel runs no 32-bit programs")

    assert outside == 0
    expected = errno.EPERM
    if name in ABSENT:
        expected = errno.ENOSYS
    if name in KILLED:
        expected = -signal.SIGSYS
    assert inside == expected


def test_everyday_work_passes() -> None:
    """A sandbox that breaks what agents do is switched off."""
    assert run("everyday") == "fine\n"


def test_the_kernel_says_why_it_does_not_take_a_filter() -> None:
    """Whoever believes in a filter that is not there is worse off than without."""
    assert json.loads(run("installing")) == {
        "not a program": "EINVAL",
        "no_new_privs is not set": "EACCES",
        "of another architecture": "SIGSYS",
        "inherited by programs": "PermissionError",
    }

"""Syscalls by name, without the C library between; and how one attempt of a call is made."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator

from kagent_sdk.sandbox.kernel import set_filter
from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.seccomp.bpf import compile_filter
from kagent_sdk.sandbox.seccomp.kernel import running_architecture
from kagent_sdk.sandbox.seccomp.rules import rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES

MACHINE = running_architecture() or ""
NUMBERS = ARCHITECTURES[MACHINE].numbers()

Attempt = Callable[[], Iterator[None]]
"""Prepares what it needs, yields, and makes the call that should be refused."""

NOT_PREPARED = 250
"""The exit code of an attempt that failed before the call."""

_PR_SET_NO_NEW_PRIVS = 38
_LIBC = ctypes.CDLL(None, use_errno=True)
_sleepers: list[int] = []


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a syscall; integers fill whole registers.

    Raises:
        OSError: the kernel's answer.
    """
    whole = [
        ctypes.c_ulong(argument % 2**64) if isinstance(argument, int) else argument
        for argument in arguments
    ]
    _LIBC.syscall.restype = ctypes.c_long
    answer = int(_LIBC.syscall(ctypes.c_long(NUMBERS[name]), *whole))
    if answer == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return answer


def confine(policy: Policy) -> None:
    """Put this process under the filter of a policy, and under nothing else."""
    forgo_privileges()
    set_filter(compile_filter(rules_for(policy), MACHINE))


def forgo_privileges() -> None:
    """Set what the kernel wants before it takes a filter of an ordinary process."""
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def make_sleeper() -> int:
    """Start a process that does nothing; return its id. The attempt's end is its end."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    _sleepers.append(pid)
    return pid


def end_child(pid: int) -> None:
    """Leave at once where a call has made a child; wait for it where it has one."""
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def make_attempt(attempt: Attempt, policy: Policy | None) -> int:
    """Make an attempt in a process of its own, under the filter of a policy or without one.

    Returns:
        0: it succeeded; the number of its error; or, negative, the signal that ended it.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(_run(attempt, policy))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(attempt: Attempt, policy: Policy | None) -> int:
    steps = attempt()
    try:
        next(steps)
    except Exception as error:  # noqa: BLE001  # whatever it is, the attempt was none
        os.write(2, f"{attempt.__name__} was not prepared: {error!r}\n".encode())
        return NOT_PREPARED
    try:
        if policy is not None:
            confine(policy)
        next(steps, None)
    except OSError as error:
        return error.errno or NOT_PREPARED
    finally:
        for sleeper in _sleepers:
            os.kill(sleeper, signal.SIGKILL)
            os.waitpid(sleeper, 0)
    return 0

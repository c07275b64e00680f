"""Try to install filters; print what came of it as JSON."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from kagent_sdk.sandbox.kernel import set_filter
from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.seccomp.bpf import compile_filter
from kagent_sdk.sandbox.seccomp.rules import rules_for
from kagent_sdk.sandbox.seccomp.syscalls import ARCHITECTURES
from tests.integration.syscalls.raw import MACHINE, confine, forgo_privileges


def _install_nonsense() -> None:
    forgo_privileges()
    set_filter(bytes(16))


def _install_with_privileges() -> None:
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)
    set_filter(compile_filter(rules_for(Policy()), MACHINE))


def _install_foreign() -> None:
    forgo_privileges()
    (other,) = ARCHITECTURES.keys() - {MACHINE}
    set_filter(compile_filter(rules_for(Policy()), other))


def _in_child(action: Callable[[], None]) -> str:
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return signal.Signals(-code).name if code < 0 else errno.errorcode.get(code, str(code))


def _run_program_inside() -> str:
    confine(Policy())
    done = subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket()"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1].partition(":")[0]


def main() -> None:
    """Try them all."""
    found = {
        "not a program": _in_child(_install_nonsense),
        "no_new_privs is not set": _in_child(_install_with_privileges),
        "of another architecture": _in_child(_install_foreign),
        "inherited by programs": _run_program_inside(),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

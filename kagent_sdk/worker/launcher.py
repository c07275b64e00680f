"""``python -m kagent_sdk.worker.launcher REPORT_FD HOST_PID PROGRAM…``: become another program.

Does in the new process what only that process can do for itself, and is gone with the exec.
"""

from __future__ import annotations

import os
import signal
import sys

EXIT_NOT_STARTED = 127  # as a shell says that there is no such program

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Die with the host, then exec the program.

    The report's descriptor closes when the program runs; until then an error is written there.
    """
    report_fd, host_pid = int(sys.argv[1]), int(sys.argv[2])
    argv = sys.argv[3:]
    os.set_inheritable(report_fd, False)  # noqa: FBT003 - the standard library's way
    _die_with(host_pid)
    # Python ignores these two; a program expects them as the kernel has them (signal(7)).
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if "WATCHDOG_USEC" in os.environ:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - running the author's program is what we are for
    except OSError as exc:
        os.write(report_fd, (exc.strerror or "unknown error").encode())
        sys.exit(EXIT_NOT_STARTED)


def _die_with(host_pid: int) -> None:
    """Let the kernel kill this process when the host's main thread ends (prctl(2))."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != host_pid:
        sys.exit(EXIT_NOT_STARTED)


if __name__ == "__main__":
    main()

"""Starting something confined: what `kagent_sdk.sandbox.launch` does, and the command for it."""

from __future__ import annotations

import errno
import os
import sys

from kagent_sdk.sandbox.application import FailureError, apply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

EXIT_NOT_STARTED = 127  # as a shell says that there is no such program
EXIT_NOT_CONFINED = 3

_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25  # the module signal costs 1 ms

CONFINED = "AGENT_SANDBOX"
"""Tells what runs confined that it is: the mode, and `` external`` when the network is open."""

MODULE = "module"
PROGRAM = "program"

SEPARATOR = "\x1f"
"""Between the fields of a line of the report; no name or message has it."""


def launch_command(
    plan_fd: int, report_fd: int, host_pid: int, kind: str, arguments: Sequence[str]
) -> list[str]:
    """Return the command that starts something confined.

    Args:
        plan_fd: an inherited descriptor to read the plan from (`plan.encode_plan`), for this process.
        report_fd: an inherited descriptor for the report; it ends when the process runs what it is
            for, or has failed to (`report.read_report`).
        host_pid: who has to be the parent; 0 when something stands between.
        kind: ``module``: the first argument is a module with a function ``main``, run in the same
            process after `site` with the others in ``sys.argv``; ``program``: the arguments are a
            program's, found in PATH, that takes the place of the process.
        arguments: one at least.
    """
    script = f"{os.path.dirname(os.path.abspath(__file__))}/launch.py"  # noqa: PTH100, PTH120
    numbers = (str(plan_fd), str(report_fd), str(host_pid))
    return [sys.executable, "-S", script, *numbers, kind, *arguments]


def start(arguments: Sequence[str], path: Sequence[str]) -> NoReturn:
    """Confine this process and run what the arguments say.

    Args:
        arguments: those of `launch_command`, without the script's name.
        path: ``sys.path`` for the time after.
    """
    plan_fd, report_fd, host_pid = (int(word) for word in arguments[:3])
    kind, *rest = arguments[3:]
    os.set_inheritable(report_fd, False)  # noqa: FBT003 - the standard library's way
    _die_with(host_pid)
    # Once more after the change of user, which takes it back (prctl(2)).
    plan = _read_plan(plan_fd)
    plan["keep_fds"] = (*plan["keep_fds"], report_fd)
    if "relay" in plan:
        # Before the process is confined, and has closed what the relay must not keep either.
        from kagent_sdk.sandbox.relay import start as start_relay  # noqa: PLC0415 - few need it

        start_relay(*plan["relay"])
    interpreter = (sys.executable, os.__file__, __file__) if kind == MODULE else ()
    plan["needs"] = (*interpreter, os.getcwd())  # noqa: PTH109 - pathlib costs 3 ms
    try:
        rows = apply(plan)
    except FailureError as exc:
        _say(report_fd, ("error", exc.control, exc.message, exc.way_out))
        sys.exit(EXIT_NOT_CONFINED)
    _die_with(host_pid)
    for row in rows:
        _say(report_fd, row)
    if plan["mode"] != "off":
        os.environ[CONFINED] = plan["mode"] + (" external" if plan["connect"] is None else "")
    if kind == PROGRAM:
        _become_program(report_fd, rest)
    os.close(report_fd)
    _run_module(rest, path)


def _read_plan(fd: int) -> dict[str, Any]:
    import marshal  # noqa: PLC0415 - see the module

    with open(fd, "rb", buffering=0) as file:
        encoded = file.read()
    if not encoded:
        sys.exit(EXIT_NOT_STARTED)  # the host thought better of it, or is gone
    plan: dict[str, Any] = marshal.loads(encoded)  # noqa: S302 - the host wrote it
    return plan


def _say(report_fd: int, fields: Sequence[str]) -> None:
    line = SEPARATOR.join(field.replace("\n", " ").replace(SEPARATOR, " ") for field in fields)
    os.write(report_fd, f"{line}\n".encode("utf-8", "surrogateescape"))


def _die_with(host_pid: int) -> None:
    if sys.platform == "linux":
        from kagent_sdk.sandbox.kernel import PR_SET_PDEATHSIG, prctl  # noqa: PLC0415

        prctl(PR_SET_PDEATHSIG, _SIGKILL)
    if host_pid and os.getppid() != host_pid:
        sys.exit(EXIT_NOT_STARTED)


def _become_program(report_fd: int, argv: Sequence[str]) -> NoReturn:
    from kagent_sdk.sandbox.kernel import reset_signal  # noqa: PLC0415 - only for programs

    # Python ignores these two; a program expects them as the kernel has them (signal(7)).
    for number in (_SIGPIPE, _SIGXFSZ):
        reset_signal(number)
    if "WATCHDOG_USEC" in os.environ:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    try:
        os.execv(_find_program(argv[0]), list(argv))  # noqa: S606 - what we are for
    except OSError as exc:
        _say(report_fd, ("program", exc.strerror or "unknown error"))
        sys.exit(EXIT_NOT_STARTED)


def _find_program(name: str) -> str:
    """Return where a program is; execvp(3) says EACCES when it may not look into all of PATH."""
    if "/" in name:
        return name
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{folder or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112 - pathlib costs 3 ms
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _run_module(arguments: Sequence[str], path: Sequence[str]) -> NoReturn:
    """Do what Python does at its start without -S, and what it does for -m."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "kagent_sdk"]:
        del sys.modules[name]
    sys.path[:] = path
    import site  # noqa: PLC0415 - runs .pth files and sitecustomize: the author's

    site.main()
    sys.flags = _SitedFlags(sys.flags)  # type: ignore[assignment]
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - pathlib costs 3 ms
    name, *rest = arguments
    __import__(name)
    module = sys.modules[name]
    sys.argv = [str(module.__file__), *rest]
    sys.exit(module.main())


class _SitedFlags:
    """``sys.flags`` of a process that has run `site` after all.

    `multiprocessing` starts its children with the flags of the parent: with -S they would lack what
    .pth files put on the path, packages that are installed for editing among them.
    """

    no_site = 0

    def __init__(self, flags: object) -> None:
        self._flags = flags

    def __getattr__(self, name: str) -> object:
        return getattr(self._flags, name)

    def __repr__(self) -> str:
        return repr(self._flags).replace("no_site=1", "no_site=0")

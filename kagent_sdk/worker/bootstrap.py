"""``python -m kagent_sdk.worker.bootstrap ENTRYPOINT``: prepare the process, run the author's file.

Imports next to nothing: whatever is imported here is paid for before the author's first line.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType

from kagent_sdk.worker.environment import LOG_LEVEL, STACKS_FD, STACKS_SIGNAL, WORKER_FD

EXIT_RAISED = 1
EXIT_USAGE = 2
EXIT_NEVER_RAN = 3

GC_THRESHOLD = 10_000
"""Objects between two collections of the youngest generation, instead of 700: a task makes some
fifty, and collecting after every dozen tasks costs 7 % of the rate. Set before the author's code,
which may set it otherwise."""


def main() -> None:
    """Run the entrypoint that the command line names, as ``__main__``.

    Exit codes: what the entrypoint or `agent.run()` says, 1 when it raises, 2 without an
    entrypoint, 3 when it cannot be read or ends without having called ``agent.run()``.
    """
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m kagent_sdk.worker.bootstrap ENTRYPOINT\n")
        sys.exit(EXIT_USAGE)
    prepare_process()
    # Not resolved: a mounted file may be a link to a place that is nobody's agent folder.
    path = Path(sys.argv[1]).absolute()
    run_entrypoint(path)
    if WORKER_FD in os.environ:
        sys.stderr.write(
            f"{path.name} ended without calling agent.run(): "
            'write `if __name__ == "__main__": agent.run()` at its end\n'
        )
        sys.exit(EXIT_NEVER_RAN)


def prepare_process() -> None:
    """Die with the host, show stacks on demand, leave signals to the host, print line by line."""
    _die_with_parent()
    _prepare_output()
    _show_stacks()
    gc.set_threshold(GC_THRESHOLD)
    # The host drives the shutdown with STOP frames; a terminal's Ctrl-C reaches it as well. Not
    # SIG_IGN: the author's subprocesses would inherit that and could not be terminated.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_to_host)
    os.register_at_fork(after_in_child=_restore_signals)


def run_entrypoint(path: Path) -> None:
    """Run a file as ``python path`` would: as ``__main__``, with its folder first on the path.

    Not with `runpy`, which takes the module away again: what pickles, spawns or resolves hints
    looks it up in ``sys.modules`` for as long as the process lives.

    Raises:
        SystemExit: with 1 when it raises: the traceback is on stderr, without our frames. With 3
            when it cannot be read.
    """
    name = str(path)
    sys.argv = [name]
    _put_first_on_path(str(path.parent))
    module = ModuleType("__main__")
    module.__file__ = name
    module.__loader__ = SourceFileLoader("__main__", name)
    module.__dict__["__cached__"] = None
    sys.modules["__main__"] = module
    # `multiprocessing` gives the main module a second name when it is imported, which a .pth file
    # may have done already; what children send back is looked up under it.
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = module
    try:
        source = path.read_bytes()
    except OSError as exc:
        sys.stderr.write(f"cannot read the entrypoint {name}: {exc.strerror}\n")
        sys.exit(EXIT_NEVER_RAN)
    try:
        code = compile(source, name, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the author's file is what we are for
    except Exception as exc:  # noqa: BLE001 - the boundary of the process
        from kagent_sdk.worker.tracebacks import format_fatal  # noqa: PLC0415

        sys.stderr.write(format_fatal(exc))
        sys.exit(EXIT_RAISED)


def _die_with_parent() -> None:
    """Let the kernel kill this process when the host's main thread ends (prctl(2))."""
    if sys.platform != "linux":
        return
    from kagent_sdk.sandbox.kernel import PR_SET_PDEATHSIG, prctl  # noqa: PLC0415 - Linux only

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prepare_output() -> None:
    """Mark what is printed and logged with its task, where a host reads it."""
    level = os.environ.pop(LOG_LEVEL, None)
    if WORKER_FD not in os.environ:
        # Into a pipe Python writes blocks of 8 KiB: lines would come late, and die with a crash.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return
    from kagent_sdk.worker.output import LineStream, install_streams  # noqa: PLC0415

    install_streams()
    if level and isinstance(sys.stderr, LineStream):
        from kagent_sdk.worker.logging_setup import set_up_logging  # noqa: PLC0415

        set_up_logging(sys.stderr, level)


def _show_stacks() -> None:
    """Write all stacks to the host's pipe on its signal: works while C code holds the GIL."""
    faulthandler.enable()
    fd = os.environ.pop(STACKS_FD, None)
    number = os.environ.pop(STACKS_SIGNAL, None)
    if fd is not None and number is not None:
        os.set_inheritable(int(fd), False)  # noqa: FBT003 - the standard library's way
        faulthandler.register(int(number), file=int(fd), all_threads=True, chain=False)


def _leave_to_host(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def _restore_signals() -> None:
    """Give a forked child Python's own handlers: `multiprocessing` ends its children with SIGTERM."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _put_first_on_path(folder: str) -> None:
    if sys.flags.safe_path:
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder


if __name__ == "__main__":
    main()

"""A program that is no agent: its arguments say, step by step, what it does.

Only `socket` is needed for the notify protocol here, as in any other language. After the last step it goes on for ever, with a beat every 50 ms if it was told to; SIGUSR1 ends the
beats.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

BEAT_S = 0.05

beating = False


def notify(text: str, *descriptors: int) -> None:
    """Send one datagram."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(sender, [text.encode()], list(descriptors))


def put(stream: TextIO, line: str) -> None:
    """Print a line at once."""
    stream.write(f"{line}\n")
    stream.flush()


def tell_environment() -> None:
    """Write what the process was given, whole or not at all."""
    facts = {
        "pid": os.getpid(),
        "cwd": str(Path.cwd()),
        "environ": dict(os.environ),
        "descriptors": sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()),
        "ignored": [n.name for n in signal.Signals if signal.getsignal(n) is signal.SIG_IGN],
    }
    Path("runtime/data/facts.tmp").write_text(json.dumps(facts))
    Path("runtime/data/facts.tmp").rename("runtime/data/facts.json")


def wait_for_file(name: str) -> None:
    """Wait until a test makes the file."""
    while not Path(name).exists():
        time.sleep(0.02)


def wait_for_no_file(name: str) -> None:
    """Wait until a test takes the file away."""
    while Path(name).exists():
        time.sleep(0.02)


def stop_beating(_number: int, _frame: object) -> None:
    """Fall silent."""
    global beating  # noqa: PLW0603 - a program of thirty lines
    beating = False


def leave(_number: int, _frame: object) -> None:
    """End in order."""
    put(sys.stdout, "left in order")
    sys.exit(0)


def show_abort(_number: int, _frame: object) -> None:
    """Say where it hangs."""
    put(sys.stderr, "aborted while it hung")
    os._exit(134)


def pass_barrier() -> None:
    """Wait until the host has read all that was sent (sd_notify_barrier(3))."""
    read, write = os.pipe()
    notify("BARRIER=1", write)
    os.close(write)
    os.read(read, 1)
    put(sys.stdout, "barrier passed")


def notify_from_child() -> None:
    """Let a process of another session say it."""
    code = (
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        "s.sendto(b'READY=1\\nSTATUS=by a child', os.environ['NOTIFY_SOCKET']); input()"
    )
    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True)


def flood() -> None:
    """Send as fast as the host takes it, for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(os.environ["NOTIFY_SOCKET"])
        while True:
            sender.send(b"STATUS=" + b"x" * 4000)


def start_beating(_value: str) -> None:
    """Send a beat with every turn of the last loop."""
    global beating  # noqa: PLW0603 - as above
    beating = True


def on(number: signal.Signals, action: Any) -> Callable[[str], None]:
    """Return the step that sets what a signal does."""

    def install(_value: str) -> None:
        signal.signal(number, action)

    return install


STEPS: dict[str, Callable[[str], None]] = {
    "say": notify,
    "say-huge": lambda _value: notify("READY=1\nSTATUS=" + "x" * 5000),
    "beat": start_beating,
    "wait": wait_for_file,
    "wait-gone": wait_for_no_file,
    "exit": lambda value: sys.exit(int(value)),
    "leave-on-term": on(signal.SIGTERM, leave),
    "ignore-term": on(signal.SIGTERM, signal.SIG_IGN),
    "show-abort": on(signal.SIGABRT, show_abort),
    "ignore-abort": on(signal.SIGABRT, signal.SIG_IGN),
    "barrier": lambda _value: pass_barrier(),
    "child": lambda _value: notify_from_child(),
    "flood": lambda _value: flood(),
}


if __name__ == "__main__":
    tell_environment()
    signal.signal(signal.SIGUSR1, stop_beating)
    for argument in sys.argv[1:]:
        name, _, value = argument.partition(":")
        STEPS[name](value)
    while True:
        if beating:
            notify("WATCHDOG=1")
        time.sleep(BEAT_S)

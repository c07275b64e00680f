"""The agent that prints: through every door, and at any rate."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

from kagent_sdk import Agent

agent = Agent()
DATA = Path("runtime/data")
PROCESSES = 4
THREADS = 8

# Each writer counts what it has written in a file that is mapped: what is counted there was written
# whole, however the process ended.
WRITER = """
import mmap, os, struct, sys
def chatter(fd, name, path):
    with open(path, "w+b") as file:
        file.truncate(8)
        count = mmap.mmap(file.fileno(), 8)
    number = 0
    while True:
        os.write(fd, b"%b n%08d %b\\n" % (name, number, b"x" * (number % 64)))
        number += 1
        count[:] = struct.pack("<Q", number)
if __name__ == "__main__":
    chatter(int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3])
"""


@agent.on_startup
def start_chatter() -> None:
    """Start the writers, if asked for."""
    if not (DATA / "chatter").exists():
        return
    epoch = len(list(DATA.glob("epoch-*")))
    folder = DATA / f"epoch-{epoch}"
    folder.mkdir()
    writer: dict[str, object] = {"__name__": "writer"}
    exec(WRITER, writer)  # noqa: S102 - the same code in threads and in processes
    chatter = writer["chatter"]
    assert callable(chatter)
    for index in range(PROCESSES + THREADS):
        name = f"w{index} e{epoch}"
        path = folder / f"w{index}"
        fd = 1 + index % 2
        if index < PROCESSES:
            subprocess.Popen([sys.executable, "-S", "-c", WRITER, str(fd), name, str(path)])
        else:
            arguments = (fd, name.encode(), path)
            threading.Thread(target=chatter, args=arguments, daemon=True).start()


@agent.capability
def spam(lines: int, size: int = 100) -> None:
    """Print numbered lines."""
    for number in range(lines):
        os.write(1, b"spam n%08d %b\n" % (number, b"y" * size))


@agent.capability
async def say(text: str, *, error: bool = False) -> None:
    """Print a text, just as it is."""
    os.write(2 if error else 1, text.encode())


@agent.capability
async def echo(text: str) -> str:
    """Give back what came."""
    return text


@agent.capability
def shout() -> None:
    """Print through every door there is: a subprocess, C code, then crash."""
    subprocess.run(["sh", "-c", "echo from a subprocess; echo and its stderr >&2"], check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"from C code")
    libc.fflush(None)
    os.write(
        1, b"\xff not UTF-8\n" + b"z" * 1000 + b'\n{"event": "json", "stream": "host"}\nlast words'
    )
    ctypes.string_at(0)


if __name__ == "__main__":
    agent.run()

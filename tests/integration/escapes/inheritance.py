"""Attempts by what a process leaves to its children, or was left by its parents."""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

from .ground import BlockedError, Ground, attempt
from .kernel_calls import libc


def _run(code: str, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments], check=False, capture_output=True
    )
    if done.returncode:
        raise BlockedError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return done.stdout


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - names alone


@attempt()
def read_by_program(ground: Ground) -> str:
    """Have another program read a file outside."""
    done = subprocess.run(["cat", ground.outside("secret")], check=False, capture_output=True)
    if done.returncode:
        raise BlockedError(done.stderr.decode(errors="replace").strip())
    return ground.expect(done.stdout)


@attempt()
def write_by_new_interpreter(ground: Ground) -> str:
    """Have a fresh Python write outside."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x')"
    _run(code, ground.outside(f"child-{os.getpid()}"))
    return "written"


@attempt()
def connect_by_new_interpreter(ground: Ground) -> str:
    """Have a fresh Python connect to a server."""
    code = (
        "import sys, socket; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5);"
        "c.sendall(b'tell\\n'); print(c.recv(100).decode())"
    )
    return ground.expect(_run(code, str(ground.tcp_port)))


@attempt()
def kill_by_new_interpreter(ground: Ground) -> str:
    """Have a fresh Python signal the host."""
    _run("import os, sys; os.kill(int(sys.argv[1]), 0)", str(ground.host_pid))
    return "could be sent"


@attempt()
def read_by_orphan(ground: Ground) -> str:
    """Read by a process that has left its session and its parents."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            try:
                os.write(theirs, Path(ground.outside("secret")).read_bytes())
            except OSError as exc:
                os.write(theirs, str(exc).encode())
        os._exit(0)
    os.wait()
    return ground.expect(os.read(ours, 200))


@attempt()
def read_by_new_thread(ground: Ground) -> str:
    """Read in a thread: what is applied to one thread may miss others."""
    found: list[str] = []

    def read() -> None:
        try:
            found.append(Path(ground.outside("secret")).read_text())
        except OSError as exc:
            found.append(str(exc))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return ground.expect(found[0])


@attempt()
def read_inherited_file(ground: Ground) -> str:
    """Read from a descriptor that the host was started with."""
    if not stat.S_ISREG(os.fstat(ground.leaked_fd).st_mode):
        raise BlockedError("something else has its number")
    return ground.expect(os.pread(ground.leaked_fd, 100, 0))


@attempt()
def find_inherited_files(ground: Ground) -> str:
    """Look for any open file of the host's, or of whoever started it."""
    found = []
    for name in _names("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - short
        except OSError:
            continue
        if target.startswith((ground.field, ground.inside("runtime/j"), ground.inside("logs"))):
            found.append(target)
    if not found:
        raise BlockedError("nothing is open")
    return f"open: {found}"


@attempt()
def find_inherited_server(ground: Ground) -> str:
    """Look for a listening socket among the descriptors."""
    for name in _names("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return f"descriptor {name} listens"
        except OSError:
            continue
    raise BlockedError("no socket listens")


@attempt()
def get_file_from_neighbour(ground: Ground) -> str:
    """Have an unconfined process send an open file (SCM_RIGHTS)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(ground.outside("socket"))
        connection.sendall(b"file\n")
        _, fds, _, _ = socket.recv_fds(connection, 100, 1)
        return ground.expect(os.pread(fds[0], 100, 0))


@attempt()
def read_environment_of_host(ground: Ground) -> str:
    """Find in one's own environment what only the host was told."""
    return ground.expect(os.environ.get("KOS_TEST_HOSTS_SECRET", ""))


@attempt(lacking="the limit of images may be 0 for all")
def be_dumped(ground: Ground) -> str:
    """Crash, and leave an image of the memory."""
    child = os.fork()
    if child == 0:
        libc("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        os.chdir(ground.inside("runtime/cache"))
        os.abort()
    _, status = os.waitpid(child, 0)
    if not os.WCOREDUMP(status):
        raise BlockedError("no image was left")
    return "an image was left"

"""An agent in a container of this machine: found by its folder, reached by way of the engine.

A container without a network has no port to show. The engine can start a program in it, whose stdin and
stdout lead to the control plane there.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kagent_sdk.cli.boundary import UnreachableError
from kagent_sdk.cli.engines import RUNNERS, ask
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FOLDER_LABEL = "io.kos.folder"
"""Of a container that `kos-agent run --isolation container` started: the agent's folder."""

END_S = 5.0
"""A relay ends when nobody is at its other end any more; one that does not is killed."""

HTTP_PORT = 80

RELAY = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
peer.settimeout(None)
def send():
    while data := os.read(0, 65536):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_RDWR)
threading.Thread(target=send, daemon=True).start()
while data := peer.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""
"""Runs in the container, with whatever Python and version of ours is there."""


def find_relay(directory: Path, url: str) -> tuple[str, ...]:
    """Return the program that leads to the agent of a folder, which runs in a container.

    Args:
        directory: the agent's folder.
        url: where it listens in the container.

    Raises:
        UnreachableError: no engine of this user has such a container.
    """
    parts = urlsplit(url)
    peer = (parts.hostname or "127.0.0.1", str(parts.port or HTTP_PORT))
    for engine in RUNNERS:
        name = _find_container(engine, directory) if shutil.which(engine) else None
        if name is not None:
            python = ("python3", "-I", "-S", "-c", RELAY)
            return (engine, "exec", "--interactive", name, *python, *peer)
    raise UnreachableError(
        f"the agent of {clean_line(directory)} runs in a container, or did, and no engine of yours "
        "has one that kos-agent run has started; name its address with --url URL, or ask inside: "
        "podman exec NAME kos-agent status",
        code="not_running",
    )


@contextmanager
def open_relay(words: Sequence[str], timeout_s: float) -> Iterator[socket.socket]:
    """Run a program for the time of the block and give the socket that is its stdin and stdout.

    Raises:
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    # Whoever wraps or reads the socket may keep it open: this ends it under all its names.
    with ours, ours.dup() as same:
        with theirs:
            process = subprocess.Popen(
                words,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(timeout_s)
        try:
            yield ours
        finally:
            with suppress(OSError):  # the other end has gone first
                same.shutdown(socket.SHUT_RDWR)
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _find_container(engine: str, directory: Path) -> str | None:
    label = f"label={FOLDER_LABEL}={directory.resolve()}"
    done = ask(engine, "ps", "--filter", label, "--format", "{{.Names}}")
    names = done.stdout.split()
    return names[0] if done.returncode == 0 and names else None

"""What attempts are made at: files, sockets and a process that belong to the probe alone."""

from __future__ import annotations

# A probe is a short-lived interpreter, and pathlib would be a good part of its start:
# ruff: noqa: PTH118
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kagent_sdk.sandbox.audit.places import is_given
from kagent_sdk.sandbox.audit.tiny_program import tiny_program
from kagent_sdk.sandbox.audit.wire import Question
from kagent_sdk.sandbox.policy import Policy


@dataclass(frozen=True, slots=True)
class Targets:
    """What the attempts are made at; all of it belongs to the probe.

    Attributes:
        folder: a folder that the policy gives nothing of, and that the user owns.
        file: a file in it.
        program: an executable in a folder that may be written; empty where there is none.
        vault: the agent's vault; empty where there is none.
        victim: the id of a process outside.
        port: a TCP port of the loopback device where somebody listens.
        name: the name of an abstract unix socket where somebody listens.
    """

    folder: str
    file: str
    program: str
    vault: str
    victim: int
    port: int
    name: str


@contextmanager
def make_targets(question: Question) -> Iterator[Targets]:
    """Have the targets for the time of the block; nothing stays of them."""
    with ExitStack() as stack:
        folder = _make_folder(question, stack)
        file = os.path.join(folder, "file") if folder else ""
        if file:
            _write(file, b"canary", 0o600)
        server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        name = f"canary-{os.getpid()}"
        hidden = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        hidden.bind(f"\0{name}")
        hidden.listen(16)
        yield Targets(
            folder=folder,
            file=file,
            program=_make_program(question.policy, stack),
            vault=question.vault,
            victim=stack.enter_context(_victim()),
            port=server.getsockname()[1],
            name=name,
        )


def _make_folder(question: Question, stack: ExitStack) -> str:
    """Make a folder that the policy gives nothing of; empty where there is no place for one."""
    for parent in question.outside:
        if is_given(os.path.realpath(parent), question.policy):
            continue
        try:
            folder = tempfile.mkdtemp(prefix="canary-", dir=parent)
        except OSError:
            continue
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    return ""


def _make_program(policy: Policy, stack: ExitStack) -> str:
    """Write a program where the policy lets files be written; empty where there is no folder."""
    code = tiny_program(platform.machine())
    # Shared memory is often mounted without execution, for everybody: it comes last.
    for parent in sorted(policy.write, key=lambda path: path.startswith("/dev/")) if code else ():
        try:
            folder = tempfile.mkdtemp(prefix="canary-", dir=parent)
        except OSError:
            continue
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = os.path.join(folder, "program")
        _write(path, code or b"", 0o700)
        return path
    return ""


def _write(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


@contextmanager
def _victim() -> Iterator[int]:
    """Have a process that waits until the end of the block."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        yield pid
    finally:
        os.close(write)
        os.waitpid(pid, 0)

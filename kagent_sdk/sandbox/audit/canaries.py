"""What a confined process should not be able to do, tried.

Each attempt is harmless where it succeeds, and each is made twice: by an unconfined child first, where
it has to succeed to count, then by the confined one. The kernel shows neither Landlock's rules nor what a
filter of seccomp says, so this is the only way to know.
"""

from __future__ import annotations

# A probe is a short-lived interpreter, and pathlib would be a good part of its start;
# attempts have one signature, whatever they make use of:
# ruff: noqa: PTH108, PTH118, ARG001
import ctypes
import errno
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from kagent_sdk.sandbox.audit.table import observe
from kagent_sdk.sandbox.audit.targets import Targets
from kagent_sdk.sandbox.controls import Control, Finding, Verdict
from kagent_sdk.sandbox.policy import Policy

ATTEMPT_LIMIT_S = 2
"""None of them waits for anything; one that hangs is ended."""

DONE = "done"

_PTRACE_SEIZE = 0x4206  # linux/ptrace.h; unlike PTRACE_ATTACH it does not stop the other process
_CLONE_NEWUSER = 0x10000000  # linux/sched.h
_PROTO_MPTCP = 262  # linux/in.h
_AF_NETLINK, _AF_VSOCK = 16, 40  # linux/socket.h


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something to try.

    Attributes:
        control: what should prevent it.
        what: in a few words, as the end of "could …".
        call: the system call, as evidence.
        act: does it.

    Raises:
        OSError: from ``act``: it was refused.
    """

    control: Control
    what: str
    call: str
    act: Callable[[Targets], None]


def attempts_for(policy: Policy, targets: Targets) -> tuple[Attempt, ...]:
    """Return what should be refused under a policy, and can be tried with these targets."""
    attempts = [*_ALWAYS]
    if not policy.network.external:
        attempts += _WAYS_OUT
    if targets.folder:
        attempts += _FILES
    if targets.program:
        attempts.append(_EXECUTE)
    if targets.vault:
        attempts.append(_READ_VAULT)
    return tuple(attempts)


def judge(policy: Policy, attempt: Attempt, outside: str, inside: str) -> Finding:
    """Return what an attempt has shown.

    Args:
        policy: for what is expected.
        attempt: which.
        outside: how it ended for the unconfined child: `DONE`, or the name of the error.
        inside: how it ended for the confined one.
    """
    if inside == DONE:
        verdict, actual = Verdict.MISSING, f"could {attempt.what}"
        evidence = f"{attempt.call}: succeeded"
    elif outside == DONE:
        verdict, actual = Verdict.IN_FORCE, ""
        evidence = f"{attempt.call}: {inside}"
    else:
        # What is refused to everybody here says nothing of the sandbox.
        verdict, actual = Verdict.UNKNOWN, "could not be found out"
        evidence = f"{attempt.call}: {inside}, outside too"
    finding = observe(attempt.control, policy, verdict, actual, evidence)
    return replace(finding, way_out="") if verdict is Verdict.UNKNOWN else finding


def make_attempt(attempt: Attempt, targets: Targets) -> str:
    """Try in a child of this process, which must have one thread; return how it ended.

    Returns:
        `DONE`, the name of the error such as ``EACCES``, the name of the signal that ended the child,
        or ``no child`` when there can be none.
    """
    read, write = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        return "no child"
    if child == 0:
        os._exit(_act(attempt, targets, write))
    os.close(write)
    answer = os.read(read, 64).decode()
    os.close(read)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return answer or DONE


def _act(attempt: Attempt, targets: Targets, write: int) -> int:
    """Make an attempt and write the error; whatever happens this process ends behind it."""
    try:
        signal.setitimer(signal.ITIMER_REAL, ATTEMPT_LIMIT_S)
        attempt.act(targets)
    except OSError as exc:
        name = errno.errorcode.get(exc.errno or 0, "an error")
        os.write(write, name.encode())
    except BaseException as exc:  # noqa: BLE001 - the end of a process of its own
        os.write(write, type(exc).__name__.encode()[:60])
    return 0


# Files


def _open_to_read(targets: Targets) -> None:
    os.close(os.open(targets.file, os.O_RDONLY))


def _open_to_write(targets: Targets) -> None:
    os.close(os.open(targets.file, os.O_WRONLY))


def _make_file(targets: Targets) -> None:
    path = os.path.join(targets.folder, "made")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def _execute(targets: Targets) -> None:
    os.execv(targets.program, [targets.program])  # noqa: S606 - the probe's own program


def _read_vault(targets: Targets) -> None:
    os.close(os.open(targets.vault, os.O_RDONLY))


# Other processes


def _signal_victim(targets: Targets) -> None:
    os.kill(targets.victim, 0)  # asks for the permission alone (kill(2))


def _read_memory(targets: Targets) -> None:
    os.close(os.open(f"/proc/{targets.victim}/mem", os.O_RDONLY))


def _trace_victim(targets: Targets) -> None:
    _call("ptrace", _PTRACE_SEIZE, targets.victim, 0, 0)


def _connect_abstract(targets: Targets) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(f"\0{targets.name}")


# The network


def _connect(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.connect(("127.0.0.1", targets.port))


def _listen(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)


def _open_datagrams(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", targets.port))  # sends nothing (connect(2))


def _open_multipath(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _PROTO_MPTCP) as client:
        client.connect(("127.0.0.1", targets.port))


def _open_vsock(targets: Targets) -> None:
    socket.socket(_AF_VSOCK, socket.SOCK_STREAM).close()


# The kernel


def _unshare(targets: Targets) -> None:
    _call("unshare", _CLONE_NEWUSER)


def _open_netlink(targets: Targets) -> None:
    socket.socket(_AF_NETLINK, socket.SOCK_RAW).close()


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*(ctypes.c_long(value) for value in arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


_FILES = (
    Attempt(Control.FILES, "read a file outside", "open(O_RDONLY)", _open_to_read),
    Attempt(Control.FILES, "write to a file outside", "open(O_WRONLY)", _open_to_write),
    Attempt(Control.FILES, "make a file outside", "open(O_CREAT)", _make_file),
)
_EXECUTE = Attempt(Control.FILES, "execute what it may write", "execve", _execute)
_READ_VAULT = Attempt(Control.VAULT, "read the vault", "open(O_RDONLY)", _read_vault)
_ALWAYS = (
    Attempt(Control.TCP_PORTS, "listen on any port", "bind", _listen),
    Attempt(Control.SCOPES, "signal a process outside", "kill", _signal_victim),
    Attempt(Control.SCOPES, "connect to a socket outside", "connect(AF_UNIX)", _connect_abstract),
    Attempt(Control.SYSCALLS, "make a user namespace", "unshare", _unshare),
    Attempt(Control.SYSCALLS, "trace a process outside", "ptrace", _trace_victim),
    Attempt(Control.SYSCALLS, "open a netlink socket", "socket(AF_NETLINK)", _open_netlink),
    Attempt(Control.HOST_MEMORY, "read a process outside", "open(/proc/PID/mem)", _read_memory),
)
_WAYS_OUT = (
    Attempt(Control.TCP_PORTS, "connect to any port", "connect", _connect),
    Attempt(Control.EGRESS, "send datagrams", "socket(SOCK_DGRAM)", _open_datagrams),
    Attempt(Control.EGRESS, "connect by MPTCP", "socket(IPPROTO_MPTCP)", _open_multipath),
    Attempt(Control.EGRESS, "reach the hypervisor", "socket(AF_VSOCK)", _open_vsock),
    Attempt(Control.EGRESS, "connect to any port", "connect", _connect),
)

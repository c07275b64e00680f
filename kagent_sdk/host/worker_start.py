"""Starting the workers of one generation: through the launcher of the sandbox, by one plan."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.sandbox.start import launch_command

if TYPE_CHECKING:
    from kagent_sdk.host.egress import Grant
    from kagent_sdk.sandbox.cgroups import WorkerCgroup
    from kagent_sdk.sandbox.policy import Policy

WAIT_THEN_RUN = 'read -r _ && exec "$@" </dev/null'
"""Keeps bubblewrap, which makes processes of its own at once, until the host has put it into its
cgroup. The launcher needs no such thing: it waits for its plan."""

GO = b"\n"


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started through the launcher.

    Attributes:
        popen: the process.
        report_fd: what the launcher says; it ends when the process runs what it is for.
        is_wrapped: it is bubblewrap's monitor, and the worker a grandchild of it.
    """

    popen: subprocess.Popen[bytes]
    report_fd: int
    is_wrapped: bool


@dataclass(frozen=True, slots=True)
class Call:
    """What a worker is to run, and what it gets of the host.

    Attributes:
        kind: ``module`` or ``program``; see `kagent_sdk.sandbox.start.launch_command`.
        words: the module and its arguments, or the program and its.
        environment: all of it.
        stdout, stderr: descriptors.
        keep_fds: further descriptors that it inherits.
        shared: files and folders that the host has made for it to read.
    """

    kind: str
    words: Sequence[str]
    environment: Mapping[str, str]
    stdout: int
    stderr: int
    keep_fds: tuple[int, ...] = ()
    shared: tuple[str, ...] = ()


class WorkerStart:
    """How the workers of one generation are started.

    Args:
        directory: the agent's folder.
        config: of the generation.
        policy: what its workers may do.
        bwrap: the path of bubblewrap, where it stands around them; else None.
        cgroup: that they belong to, if there is one.
        grant: for the egress proxy, if they may use it.

    Attributes:
        environment: variables that all of them get: those that lead to the proxy.
    """

    def __init__(
        self,
        directory: Path,
        config: AgentConfig,
        policy: Policy,
        *,
        bwrap: str | None = None,
        cgroup: WorkerCgroup | None = None,
        grant: Grant | None = None,
    ) -> None:
        from kagent_sdk.host.egress import egress_environment  # noqa: PLC0415 - with the grant
        from kagent_sdk.sandbox.plan import make_plan  # noqa: PLC0415 - behind the policy's making

        self.directory = directory
        self.config = config
        self.policy = policy
        self.grant = grant
        self.environment = egress_environment(grant)
        self._bwrap = bwrap
        self._cgroup = cgroup
        self._relay = None if grant is None else grant.socket_path
        self._plan = make_plan(policy)
        if bwrap is None:
            self._plan["isolation"] = "process"  # what it is, whatever was asked for
        if grant is not None and self._relay is not None:
            self._plan["relay"] = (grant.port, str(self._relay))

    def start(self, call: Call, ours: ExitStack, theirs: ExitStack) -> Started:
        """Start a worker in a process group of its own.

        Takes a few milliseconds (vfork and exec). Must be called from the main thread: the worker
        asks the kernel to die with the thread that started it (prctl(2), PR_SET_PDEATHSIG).

        Args:
            call: what it runs.
            ours: closes what is the host's, should this fail.
            theirs: closes what is the worker's, at the end of the caller's block.

        Raises:
            OSError: descriptors, processes or memory are used up; nothing stays open.
        """
        plan_read, plan_write = os.pipe()
        theirs.callback(os.close, plan_read)
        report_read, report_write = os.pipe()
        ours.callback(os.close, report_read)
        theirs.callback(os.close, report_write)
        inherited = (plan_read, report_write, *call.keep_fds)
        # Something stands between: the launcher cannot tell the host by its parent.
        host_pid = 0 if self._bwrap is not None else os.getpid()
        words = launch_command(plan_read, report_write, host_pid, call.kind, call.words)
        waits = self._bwrap is not None and self._cgroup is not None
        words = [*self.wrapping(call.shared), *words]
        if waits:
            words = ["/bin/sh", "-c", WAIT_THEN_RUN, "sh", *words]
        try:
            popen = subprocess.Popen(
                words,
                cwd=self.directory,
                env=call.environment,
                stdin=subprocess.PIPE if waits else subprocess.DEVNULL,
                stdout=call.stdout,
                stderr=call.stderr,
                pass_fds=inherited,
                process_group=0,
            )
            self._send(popen, plan_write, call)
        finally:
            os.close(plan_write)
        os.set_blocking(report_read, False)
        return Started(popen, report_read, self._bwrap is not None)

    def _send(self, popen: subprocess.Popen[bytes], plan_write: int, call: Call) -> None:
        """Put the process into its cgroup, then let it go on: it runs nothing of the author's before."""
        from kagent_sdk.sandbox.plan import encode_plan  # noqa: PLC0415 - as above

        with suppress(OSError):  # it is gone already, or the cgroup is: the audit tells
            self.take(popen.pid)
        if popen.stdin is not None:
            with suppress(OSError):
                os.write(popen.stdin.fileno(), GO)
            popen.stdin.close()
        plan = {**self._plan, "keep_fds": call.keep_fds}
        plan["read"] = (*self.policy.read, *call.shared)
        encoded = encode_plan(plan)
        _make_room(plan_write, len(encoded))
        with suppress(BrokenPipeError):  # it has ended; its exit is looked at elsewhere
            _write_all(plan_write, encoded)

    def take(self, pid: int) -> None:
        """Put a process that is confined as a worker into the workers' cgroup, if there is one.

        Raises:
            OSError: the process is gone, or the rights are.
        """
        if self._cgroup is not None:
            self._cgroup.take(pid)

    def wrapping(self, shared: Sequence[str] = ()) -> list[str]:
        """Return the program that makes the namespaces of a worker, and its arguments, if there is one.

        Args:
            shared: files and folders that the host has made for the worker to read.
        """
        if self._bwrap is None:
            return []
        from kagent_sdk.sandbox.bubblewrap import make_arguments  # noqa: PLC0415 - few need it

        words = make_arguments(
            self.policy,
            str(self.directory),
            shared=shared if self._relay is None else (*shared, str(self._relay)),
            is_folder=is_folder,
            find_link=find_link,
        )
        return [self._bwrap, *words[1:]]


def is_folder(path: str) -> bool | None:
    """Tell whether a path is a folder; None when nothing is there."""
    return Path(path).is_dir() if Path(path).exists() else None


def find_link(path: str) -> str | None:
    """Return what a path points to when it is a link."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return None


def _make_room(descriptor: int, size: int) -> None:
    """Let a pipe hold this much, so that writing it does not wait for the reader."""
    import fcntl  # noqa: PLC0415 - not on every system

    if size > 4096 and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]

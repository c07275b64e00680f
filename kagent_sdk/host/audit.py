"""What of the workers' policy is in force: asked of a probe, seen in /proc, kept for ``/status``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.errors import ConfigError, StartupError
from kagent_sdk.host.cgroup import CgroupReader
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.processes import in_container
from kagent_sdk.host.secret_file import refuse_own_writes
from kagent_sdk.sandbox.audit.cgroups import check_cgroup
from kagent_sdk.sandbox.audit.mounts import check_root
from kagent_sdk.sandbox.audit.probing import audit_worker, end_probe
from kagent_sdk.sandbox.audit.process import check_limits, check_status
from kagent_sdk.sandbox.audit.surroundings import check_host_memory, check_vault
from kagent_sdk.sandbox.audit.table import combine, find_critical, find_missing
from kagent_sdk.sandbox.controls import Finding, Verdict
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy

if TYPE_CHECKING:
    from subprocess import Popen

PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4  # prctl(2), <linux/prctl.h>

MAX_TEXT_BYTES = 1 << 20


def hide_memory() -> None:
    """Close this process's memory, environment and tracing to all but root (Linux; else nothing).

    Call it after the last change of user, which sets the flag anew. Of its own files in /proc the
    host then lacks ``environ``, ``io``, ``auxv`` and ``mem``, none of which it reads; its figures of
    memory, threads and descriptors stay.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - 6 ms that the first probe need not wait for

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def require_controls(policy: Policy, directory: Path, vault: Path) -> None:
    """Refuse to start where a control that ``sandbox.require`` names is not in force.

    Asks a probe, before a line of the author's code runs; blocks for some tenths of a second, and not
    at all when nothing is required.

    Raises:
        StartupError: the message has a line for each control that is missing, and how to get it.
    """
    if not policy.require:
        return
    findings = audit_agent(policy, directory, vault, is_host=True)
    missing = find_missing(policy.require, findings)
    if missing:
        raise StartupError("\n".join(["sandbox.require: not in force:", *map(_refusal, missing)]))


def audit_agent(
    policy: Policy, directory: Path, vault: Path, *, is_host: bool
) -> tuple[Finding, ...]:
    """Return a finding for each control of an agent that has no worker yet.

    Blocks for some tenths of a second.

    Args:
        policy: what its workers are confined by.
        directory: its folder.
        vault: its file of secrets, there or not.
        is_host: whether this process is its host.
    """
    seen = look_around(policy, vault, is_host=is_host, workers=())
    return combine(policy, (*ask_probe(policy, directory, vault), *seen))


def ask_probe(
    policy: Policy,
    directory: Path,
    vault: Path,
    *,
    on_start: Callable[[Popen[bytes]], None] | None = None,
) -> tuple[Finding, ...]:
    """Return what a process finds out that is confined as the agent's workers are."""
    return audit_worker(
        policy,
        vault=vault if vault.is_file() else None,
        outside=(directory / "runtime", directory),
        on_start=on_start,
    )


def look_around(
    policy: Policy, vault: Path, *, is_host: bool, workers: Sequence[int]
) -> tuple[Finding, ...]:
    """Return what can be seen without a probe: of the host, its machine, and workers that run.

    Args:
        policy: what workers are confined by.
        vault: the file of secrets.
        is_host: whether this process is the host.
        workers: process ids of workers that are ready.
    """
    if sys.platform != "linux":
        return ()
    is_container = in_container()
    seen = [
        check_host_memory(policy, is_dumpable=_is_dumpable() if is_host else None),
        check_vault(
            policy,
            is_present=vault.exists(),
            writable=_find_reach(vault),
            is_container=is_container,
        ),
        *check_root(
            policy,
            _read("/proc/self/mountinfo"),
            is_container=is_container,
            where="/proc/self/mountinfo",
        ),
    ]
    # What the kernel counts for all workers together is seen on any of them.
    if is_host or workers:
        seen.append(_check_cgroup(policy, workers[0] if workers else os.getpid()))
    # With namespaces the process that we know is bubblewrap's, not the worker itself.
    if policy.isolation is Isolation.PROCESS and policy.mode is not Mode.OFF:
        for pid in workers:
            seen += _check_worker(policy, pid)
    return tuple(seen)


class HostAudit:
    """Audits the agent after its start and after each reload, and keeps what was found.

    Args:
        directory: the agent's folder.
        policy: returns what the workers are confined by now.
        vault: returns where the vault is.
        workers: returns the process ids of workers that are ready.
        pump: takes the log events.

    Attributes:
        checked_at: when the last audit was over, in seconds since the epoch; None before the first.
        findings: one for each control; empty before the first audit.
    """

    def __init__(
        self,
        directory: Path,
        *,
        policy: Callable[[], Policy],
        vault: Callable[[], Path],
        workers: Callable[[], list[int]],
        pump: LogPump,
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._vault = vault
        self._workers = workers
        self._pump = pump
        self._is_due = asyncio.Event()
        self._probed: tuple[Finding, ...] = ()
        self.checked_at: float | None = None
        self.findings: tuple[Finding, ...] = ()

    @property
    def policy(self) -> Policy:
        """What the workers are confined by now."""
        return self._policy()

    def ask(self) -> None:
        """Audit again soon: the policy may be another one."""
        self._is_due.set()

    async def run(self, after_s: float) -> None:
        """Audit whenever it was asked for, until cancelled.

        Args:
            after_s: when to audit for the first time; a start has better things to do.
        """
        await asyncio.sleep(after_s)
        self.ask()
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            await self._audit()

    async def sample(self) -> None:
        """Look at the workers and the surroundings anew, for an answer to ``/status``."""
        if self.checked_at is None:
            return
        self.findings = await self._complete(self._policy())

    async def _audit(self) -> None:
        policy, vault = self._policy(), self._vault()
        with ExitStack() as stack:

            def end_with_host(probe: Popen[bytes]) -> None:
                stack.callback(end_probe, probe)

            self._probed = await asyncio.to_thread(
                ask_probe, policy, self._directory, vault, on_start=end_with_host
            )
        self.findings = await self._complete(policy)
        self.checked_at = time.time()
        self._tell(policy)

    async def _complete(self, policy: Policy) -> tuple[Finding, ...]:
        vault, workers = self._vault(), self._workers()
        seen = await asyncio.to_thread(look_around, policy, vault, is_host=True, workers=workers)
        return combine(policy, (*self._probed, *seen))

    def _tell(self, policy: Policy) -> None:
        counted = {
            verdict.value: [one.control.value for one in self.findings if one.verdict is verdict]
            for verdict in (Verdict.WEAKER, Verdict.MISSING, Verdict.UNKNOWN)
        }
        self._pump.log(
            "info", "sandbox_audited", mode=policy.mode, isolation=policy.isolation, **counted
        )
        for finding in find_critical(self.findings):
            self._pump.log(
                "warning",
                "sandbox_control_open",
                control=finding.control,
                verdict=finding.verdict,
                actual=finding.actual,
                detail=finding.way_out,
            )


def _refusal(finding: Finding) -> str:
    way_out = f"; {finding.way_out}" if finding.way_out else ""
    verdict = finding.verdict.value.replace("_", " ")
    actual = "" if finding.actual == verdict else f": {finding.actual}"
    return f"{finding.control.value} is {verdict}{actual}{way_out}"


def _check_worker(policy: Policy, pid: int) -> tuple[Finding, ...]:
    folder = f"/proc/{pid}"
    return (
        *check_status(policy, _read(f"{folder}/status"), where="/proc/PID/status"),
        *check_limits(
            policy,
            _read(f"{folder}/limits"),
            core_pattern=_read("/proc/sys/kernel/core_pattern"),
            is_dumpable=True,
            where="/proc/PID/limits",
        ),
    )


def _check_cgroup(policy: Policy, pid: int) -> Finding:
    sample = CgroupReader(process=pid).read()
    return check_cgroup(
        policy,
        memory_bytes=sample.memory.limit_bytes,
        cpu_cores=sample.cpu.limit_cores,
        processes=sample.pids.limit,
        where=f"cgroup {sample.version}" if sample.version else "no cgroups",
    )


def _is_dumpable() -> bool:
    import ctypes  # noqa: PLC0415 - loaded by `hide_memory` already

    return bool(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))


def _find_reach(vault: Path) -> str:
    try:
        refuse_own_writes(vault, "the vault")
    except ConfigError as exc:
        return str(exc)
    except OSError:
        return ""  # there is none
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as /proc names it
            return file.read(MAX_TEXT_BYTES)
    except OSError:
        return ""

"""Finding out what of the workers' policy is in force: asked of a probe, and seen in /proc. Blocks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import ConfigError, StartupError
from kagent_sdk.host.cgroup import CgroupReader
from kagent_sdk.host.own_memory import hide_memory, is_open
from kagent_sdk.host.processes import in_container
from kagent_sdk.host.secret_file import refuse_own_writes
from kagent_sdk.sandbox.audit.cgroups import check_cgroup
from kagent_sdk.sandbox.audit.mounts import check_root
from kagent_sdk.sandbox.audit.probing import audit_worker
from kagent_sdk.sandbox.audit.process import check_limits, check_status
from kagent_sdk.sandbox.audit.surroundings import check_host_memory, check_vault
from kagent_sdk.sandbox.audit.table import combine, find_critical, find_missing
from kagent_sdk.sandbox.audit.wire import encode_finding
from kagent_sdk.sandbox.controls import Finding
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy

if TYPE_CHECKING:
    from subprocess import Popen

    from kagent_sdk.config import LoadedConfig
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.host.worker_start import WorkerStart
    from kagent_sdk.sandbox.cgroups import WorkerCgroup

MAX_TEXT_BYTES = 1 << 20


def require_controls(start: WorkerStart, vault: Path) -> None:
    """Refuse to start where a control that ``sandbox.require`` names is not in force.

    Asks a probe, before a line of the author's code runs; blocks for some tenths of a second, and not
    at all when nothing is required.

    Raises:
        StartupError: the message has a line for each control that is missing, and how to get it.
    """
    if not start.policy.require:
        return
    hide_memory()  # the host does so at the end of its start, and this may be what is required
    missing = find_missing(start.policy.require, audit_agent(start, vault, is_host=True))
    if missing:
        raise StartupError("\n".join(["sandbox.require: not in force:", *map(_refusal, missing)]))


def audit_agent(start: WorkerStart, vault: Path, *, is_host: bool) -> tuple[Finding, ...]:
    """Return a finding for each control of an agent that has no worker yet.

    Blocks for some tenths of a second.

    Args:
        start: how its workers are started.
        vault: its file of secrets, there or not.
        is_host: whether this process is its host.
    """
    probed = ask_probe(start, vault)
    return combine(start.policy, (*probed, *look_around(start.policy, vault, is_host=is_host)))


def audit_folder(directory: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what a probe finds out for an agent that does not run, as ``/status`` would tell it.

    Nothing of the agent is changed: a probe that is to be another user becomes that by itself.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from kagent_sdk.config import read_config  # noqa: PLC0415 - a host has read it

    loaded = read_config(directory.resolve(), environ=environ)
    with _cgroup_for(loaded.config) as cgroup:
        start = _start_of(loaded, environ, cgroup)
        vault = loaded.directory / loaded.config.secrets.file
        findings = audit_agent(start, vault, is_host=False)
    return {
        "mode": start.policy.mode.value,
        "isolation": start.policy.isolation.value,
        "checked_at": datetime.now(UTC).isoformat(),
        "holds": not find_critical(findings),
        "controls": [encode_finding(finding) for finding in findings],
    }


def _start_of(
    loaded: LoadedConfig, environ: Mapping[str, str], cgroup: WorkerCgroup | None
) -> WorkerStart:
    """Return how a host would start the workers, but without a proxy behind its port."""
    from kagent_sdk.host.confinement import find_confinement  # noqa: PLC0415 - as above
    from kagent_sdk.host.egress import RELAY_PORT  # noqa: PLC0415
    from kagent_sdk.host.policy_checks import check_policy  # noqa: PLC0415
    from kagent_sdk.host.worker_start import WorkerStart  # noqa: PLC0415
    from kagent_sdk.sandbox.bubblewrap import PROGRAM  # noqa: PLC0415

    config = loaded.config
    confinement = find_confinement(loaded.directory, config, environ)
    check_policy(loaded, confinement)
    # The host's own is another at each start.
    connect = (RELAY_PORT,) if config.sandbox.network.allow else ()
    has_namespaces = config.worker.isolation == "bwrap"
    return WorkerStart(
        loaded.directory,
        config,
        confinement.policy(config, connect=connect),
        bwrap=shutil.which(PROGRAM) if has_namespaces else None,
        cgroup=cgroup,
    )


@contextmanager
def _cgroup_for(config: AgentConfig) -> Iterator[WorkerCgroup | None]:
    """Have the cgroup that a host would make, for the time of the block; None where it could not."""
    from kagent_sdk.host.confinement import limits_of  # noqa: PLC0415 - as above
    from kagent_sdk.sandbox.cgroups import CgroupError, make_cgroup  # noqa: PLC0415

    cgroup = None
    if os.geteuid() == 0 and config.sandbox.mode != "off":
        with suppress(CgroupError):
            cgroup = make_cgroup(limits_of(config.sandbox))
    try:
        yield cgroup
    finally:
        if cgroup is not None:
            cgroup.close()


def ask_probe(
    start: WorkerStart, vault: Path, *, on_start: Callable[[Popen[bytes]], None] | None = None
) -> tuple[Finding, ...]:
    """Return what a process finds out that is confined as the agent's workers are.

    Args:
        start: how the workers are started.
        vault: the file of secrets, there or not.
        on_start: told of the probe; see `kagent_sdk.sandbox.audit.probing.audit_worker`.
    """
    policy = start.policy
    counted: list[Finding] = []

    def take(probe: Popen[bytes]) -> None:
        if on_start is not None:
            on_start(probe)
        with suppress(OSError):  # what is not counted is a finding
            start.take(probe.pid)
        counted.extend(_check_cgroup(policy, probe.pid))

    found = audit_worker(
        policy,
        vault=vault if os.access(vault, os.R_OK) else None,
        outside=(start.directory / "runtime", start.directory),
        wrapper=start.wrapping(),
        on_start=take,
    )
    return (*found, *counted)


def look_around(
    policy: Policy, vault: Path, *, is_host: bool, workers: Iterable[int] = ()
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
    mounts = "/proc/self/mountinfo"
    seen = [
        check_host_memory(policy, is_dumpable=is_open() if is_host else None),
        check_vault(
            policy,
            is_present=vault.exists(),
            writable=_find_reach(vault),
            is_container=is_container,
        ),
        *check_root(policy, _read(mounts), is_container=is_container, where=mounts),
    ]
    if policy.mode is Mode.OFF:
        return tuple(seen)
    for pid in workers:
        seen += _check_cgroup(policy, pid)
        # With namespaces the process that we know is bubblewrap's, not the worker itself.
        if policy.isolation is Isolation.PROCESS:
            seen += _check_worker(policy, pid)
    return tuple(seen)


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


def _check_cgroup(policy: Policy, pid: int) -> tuple[Finding, ...]:
    sample = CgroupReader(process=pid).read()
    if sample.version is None and not Path(f"/proc/{pid}").exists():
        return ()  # it has ended
    finding = check_cgroup(
        policy,
        memory_bytes=sample.memory.limit_bytes,
        cpu_cores=sample.cpu.limit_cores,
        processes=sample.pids.limit,
        is_shared=_read(f"/proc/{pid}/cgroup") == _read("/proc/self/cgroup"),
        where=f"cgroup {sample.version}" if sample.version else "no cgroups",
    )
    return (finding,)


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

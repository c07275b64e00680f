"""Compare how much a container may use, and how long it has to stop. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.facts import Lockdown, Role
from kagent_sdk.deploy.lockdown.loosening import Loosening
from kagent_sdk.deploy.lockdown.spelling import amount_of, spelling
from kagent_sdk.sandbox.policy import Limits

ENGINE_STOP_S = 10
"""What podman and docker wait for unless they are told."""


def compare_amounts(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    """Yield the limits that a manifest lifts or does not have."""
    limits = wanted.policy.limits
    if found.role is Role.EGRESS:
        limits = _of_the_proxy(limits)
    yield from _memory(limits.memory_bytes, found)
    cores = limits.cpu_cores
    if cores is not None and (found.cpu_cores is None or found.cpu_cores > cores + 1e-9):
        text = "no limit" if found.cpu_cores is None else f"{found.cpu_cores:g}"
        fix = spelling(found.kind, "cpus", f"{cores:g}")
        yield Loosening(
            "cgroup", f"cores: {cores:g}", f"cores: {text}", found.place("cpu_cores"), fix
        )
    yield from _processes(limits.all_processes, found)
    yield from _ulimits(limits.open_files, found)
    if found.role is Role.AGENT:
        yield from _stop(wanted, found)


def _of_the_proxy(limits: Limits) -> Limits:
    """Return limits of the egress proxy, which needs what it needs, however small the agent is."""
    least = Limits()
    return Limits(
        cpu_cores=max(limits.cpu_cores or 0, least.cpu_cores or 0),
        memory_bytes=max(limits.memory_bytes or 0, least.memory_bytes or 0),
        processes=max(limits.processes or 0, least.processes or 0),
        open_files=max(limits.open_files or 0, least.open_files or 0),
    )


def _memory(wanted: int | None, found: Lockdown) -> Iterator[Loosening]:
    if wanted is None:
        return
    place, memory = found.place("memory_bytes"), found.memory_bytes
    if memory is None or memory > wanted:
        text = "no limit" if memory is None else amount_of(memory)
        fix = spelling(found.kind, "memory", wanted)
        yield Loosening("cgroup", f"memory: {amount_of(wanted)}", f"memory: {text}", place, fix)
    elif "swap_bytes" not in found.cannot:
        swap = found.swap_bytes
        if swap is None or swap < 0 or swap > wanted:
            amount = {None: "as much again", -1: "no limit"}.get(
                swap, f"{swap} bytes, memory included"
            )
            place = found.place("swap_bytes") if swap is not None else place
            fix = spelling(found.kind, "swap", memory)
            yield Loosening("cgroup", "swap: none", f"swap: {amount}", place, fix, "warning")


def _processes(wanted: int | None, found: Lockdown) -> Iterator[Loosening]:
    if wanted is None or "pids" in found.cannot:
        return
    if found.pids is None or found.pids > wanted:
        text = "no limit" if found.pids is None else str(found.pids)
        place = found.place("pids")
        fix = spelling(found.kind, "pids", wanted)
        yield Loosening("cgroup", f"processes: {wanted}", f"processes: {text}", place, fix)


def _ulimits(open_files: int | None, found: Lockdown) -> Iterator[Loosening]:
    if "ulimits" in found.cannot:
        return
    core = found.ulimits.get("core")
    if core != 0:
        text = "as the engine has it" if core is None else f"up to {core}"
        place, fix = found.place("ulimit core"), spelling(found.kind, "core")
        yield Loosening("no_core_dumps", "none", text, place, fix, "warning")
    files = found.ulimits.get("nofile")
    if open_files is not None and (files is None or files < 0 or files > open_files):
        text = "as the engine has it" if files is None else str(files)
        place = found.place("ulimit nofile")
        fix = spelling(found.kind, "nofile", open_files)
        wanted = f"open files: {open_files}"
        yield Loosening("limits", wanted, f"open files: {text}", place, fix, "warning")


def _stop(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    default = 30 if "pids" in found.cannot else ENGINE_STOP_S
    has = default if found.stop_s is None else found.stop_s
    if has < wanted.grace_s:
        place, least = found.place("stop_s"), math.ceil(wanted.grace_s)
        text = f"{has:g} s{'' if found.stop_s is not None else ', as the engine has it'}"
        fix = f"{spelling(found.kind, 'stop', least + 5)}, or its tasks are killed"
        yield Loosening("stop_timeout", f"{least} s or more", text, place, fix, "warning")

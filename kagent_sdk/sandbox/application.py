"""Applying a plan to this process, step by step, at the least cost: runs before any import.

It knows controls, verdicts and severities by their values: their classes cost too much here.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

Row = tuple[str, str, str, str, str, str, str]
"""The fields of `kagent_sdk.sandbox.controls.Finding`, in order, as text."""

IN_FORCE = "in_force"
WEAKER = "weaker"
MISSING = "missing"
NOT_ASKED_FOR = "not_asked_for"
CRITICAL = "critical"
WARNING = "warning"

REPORT_ONLY = "set sandbox.mode: report to run without it"
NEWER_KERNEL = f"use Linux 6.7 or newer with Landlock, or worker.isolation: bwrap, or {REPORT_ONLY}"
MIN_ABI = 4


class FailureError(Exception):
    """A control cannot be applied, and the plan does not do without it.

    Attributes:
        control, message, way_out: as in `kagent_sdk.errors.SandboxError`.
    """

    def __init__(self, control: str, message: str, way_out: str) -> None:
        super().__init__(control, message, way_out)
        self.control = control
        self.message = message
        self.way_out = way_out


def apply(plan: dict[str, Any]) -> list[Row]:
    """Confine this process, which has one thread, and say what is in force.

    Args:
        plan: what `kagent_sdk.sandbox.plan.make_plan` returns.

    Raises:
        FailureError: a control cannot be applied in mode enforce, or one that is required does not
            hold. The process is then confined in part, and of no use.
    """
    if plan["mode"] == "off":
        rows = [_off(control) for control in _STEPS]
    elif sys.platform != "linux":
        rows = [_foreign(control) for control in _STEPS]
    else:
        _refuse_threads()
        rows = _take_steps(plan)
    for row in rows:
        if row[0] in plan["require"] and row[1] not in {IN_FORCE, NOT_ASKED_FOR}:
            raise FailureError(row[0], f"required, and {row[1]}: {row[3]}", row[6])
    return rows


def _take_steps(plan: dict[str, Any]) -> list[Row]:
    # All at once, while they can be read: what becomes another user may not reach them.
    from kagent_sdk.sandbox import (  # noqa: F401, PLC0415 - and not at all outside Linux
        capabilities,
        descriptors,
        identity,
        landlock,
        limits,
    )

    rows = []
    for control, step in _STEPS.items():
        try:
            rows.append(step(plan))
        except FailureError as exc:
            if plan["mode"] == "enforce":
                raise
            rows.append((control, MISSING, "applied", exc.message, "", CRITICAL, exc.way_out))
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            if plan["mode"] == "enforce":
                raise FailureError(control, reason, REPORT_ONLY) from exc
            rows.append((control, MISSING, "applied", reason, "", CRITICAL, REPORT_ONLY))
    return rows


def _refuse_threads() -> None:
    # The kernel binds Landlock and capabilities to a thread, not to a process (landlock(7)).
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - names only
        raise FailureError("files", "the process has threads already", "confine it before")


def _descriptors(plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox.descriptors import close_all_but  # noqa: PLC0415

    closed = close_all_but(plan["keep_fds"])
    kept = len(plan["keep_fds"])
    return (
        "descriptors",
        IN_FORCE,
        f"0, 1, 2 and {kept} of the host's",
        f"{closed} more were closed" if closed else "nothing else was open",
        "/proc/self/fd",
        CRITICAL,
        "",
    )


def _limits(plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox.limits import limit_process  # noqa: PLC0415

    limits = plan["limits"]
    expected = ", ".join(f"{key} {value:g}" for key, value in limits.items() if value is not None)
    if not expected:
        return ("limits", NOT_ASKED_FOR, "none", "none", "policy", WARNING, "")
    weaker = limit_process(limits, _user_after(plan))
    return (
        "limits",
        WEAKER if weaker else IN_FORCE,
        expected,
        "; ".join(weaker) or "set",
        "setrlimit(2), sched_setaffinity(2)",
        WARNING,
        "let the host make a cgroup: worker.isolation: bwrap, or a container" if weaker else "",
    )


def _no_core_dumps(_plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox.limits import forbid_core_dumps  # noqa: PLC0415

    forbid_core_dumps()
    return ("no_core_dumps", IN_FORCE, "none", "none", "RLIMIT_CORE", WARNING, "")


def _user(plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox import capabilities, identity  # noqa: PLC0415

    capabilities.empty_bounding_set()
    user = plan["user"]
    if os.geteuid() == 0 and user:
        identity.become(user)
        unreadable = identity.find_unreadable(plan.get("needs", ()))
        if unreadable is not None:
            raise FailureError(
                "user",
                f"user {user} cannot read {unreadable}",
                "put it where that user can, or set worker.user: keep",
            )
    me = os.geteuid()
    if me == 0:
        way_out = "set worker.user: agent, or start it as another user"
        actual = "root without capabilities"  # they are given up next
        return ("user", WEAKER, "not root", actual, "geteuid(2)", WARNING, way_out)
    return ("user", IN_FORCE, "not root", f"user {me}", "geteuid(2)", WARNING, "")


def _no_new_privileges(_plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox.capabilities import forbid_new_privileges  # noqa: PLC0415

    forbid_new_privileges()
    return ("no_new_privileges", IN_FORCE, "set", "set", "prctl(2)", CRITICAL, "")


def _capabilities(_plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox.capabilities import drop_all  # noqa: PLC0415

    drop_all()
    return ("capabilities", IN_FORCE, "none", "none", "capset(2)", CRITICAL, "")


def _files(plan: dict[str, Any]) -> Row:
    from kagent_sdk.sandbox import landlock  # noqa: PLC0415
    from kagent_sdk.sandbox.paths import DEVICE, make_rules  # noqa: PLC0415

    abi = landlock.find_abi()
    plan["abi"] = 0
    if shortage := find_shortage(abi, plan["mode"], plan["isolation"]):
        raise FailureError("files", shortage, NEWER_KERNEL)
    rules = make_rules(plan["read"], plan["write"], plan["execute"], plan["hidden"], _children)
    rules.update(dict.fromkeys(plan["devices"], DEVICE))
    absent = landlock.restrict(abi, rules, plan["listen"], plan["connect"])
    plan["abi"] = abi
    return (
        "files",
        WEAKER if abi < MIN_ABI else IN_FORCE,
        f"{len(rules)} paths",
        f"{len(rules) - len(absent)} paths, {len(absent)} are not there",
        f"Landlock ABI {abi}",
        CRITICAL,
        NEWER_KERNEL if abi < MIN_ABI else "",
    )


def find_shortage(abi: int, mode: str, isolation: str) -> str:
    """Return why the kernel's Landlock will not do; empty when it will."""
    if not abi:
        return f"no Landlock, and {MIN_ABI} is needed"
    if abi >= MIN_ABI or mode != "enforce" or isolation == "bwrap":
        return ""
    return f"Landlock ABI {abi}, and {MIN_ABI} is needed"


def judge_ports(plan: dict[str, Any]) -> Row:
    """Say whether TCP ports are restricted, after the files were."""
    listen = ", ".join(map(str, plan["listen"])) or "none"
    connect = plan["connect"]
    to = "any" if connect is None else ", ".join(map(str, connect)) or "none"
    expected = f"listen: {listen}; connect: {to}"
    return _by_abi(plan, "tcp_ports", expected, MIN_ABI, CRITICAL)


def judge_scopes(plan: dict[str, Any]) -> Row:
    """Say whether signals and abstract sockets are, after the files were."""
    return _by_abi(plan, "scopes", "signals, abstract sockets", 6, WARNING)


def _by_abi(plan: dict[str, Any], control: str, expected: str, needed: int, severity: str) -> Row:
    abi = plan["abi"]
    evidence = f"Landlock ABI {abi}"
    if abi >= needed:
        return (control, IN_FORCE, expected, expected, evidence, severity, "")
    if plan["isolation"] == "bwrap":
        return (control, IN_FORCE, expected, "by namespaces", "bwrap", severity, "")
    newer = (
        "use Linux 6.12 or newer, or worker.isolation: bwrap" if needed > MIN_ABI else NEWER_KERNEL
    )
    return (
        control,
        MISSING if needed <= MIN_ABI else WEAKER,
        expected,
        "open",
        evidence,
        severity,
        newer,
    )


def _syscalls(plan: dict[str, Any]) -> Row:
    program: bytes = plan["filter"]
    if not program:
        way_out = f"use x86_64 or aarch64, or {REPORT_ONLY}"
        raise FailureError("syscalls", "there is no filter for this machine", way_out)
    from kagent_sdk.sandbox.kernel import set_filter  # noqa: PLC0415

    set_filter(program)
    size = f"{len(program) // 8} instructions"
    return ("syscalls", IN_FORCE, size, size, "seccomp(2)", CRITICAL, "")


_STEPS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "descriptors": _descriptors,
    "limits": _limits,
    "no_core_dumps": _no_core_dumps,
    "user": _user,
    "no_new_privileges": _no_new_privileges,
    "capabilities": _capabilities,
    "files": _files,
    "tcp_ports": judge_ports,
    "scopes": judge_scopes,
    "syscalls": _syscalls,
}


def _off(control: str) -> Row:
    way_out = "set sandbox.mode: enforce"
    return (control, MISSING, "applied", "off", "sandbox.mode", CRITICAL, way_out)


def _foreign(control: str) -> Row:
    actual = f"not on {sys.platform}"
    return (control, MISSING, "applied", actual, "sys.platform", CRITICAL, "run it on Linux")


def _user_after(plan: dict[str, Any]) -> int:
    me = os.geteuid()
    return int(plan["user"] or 0) if me == 0 else me


def _children(path: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_symlink()) for entry in entries]
    except OSError:
        return []

"""Judge what a bundle says of its process: user, rights, limits, environment. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from kagent_sdk.deploy.hook.bundle import (
    NAMESPACES,
    Case,
    Loose,
    Malformed,
    is_within,
    list_of,
    number_of,
    object_of,
    show,
    some,
)

DENYING = frozenset(
    f"SCMP_ACT_{name}" for name in ("ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP")
)

FREE_UNIFIED = frozenset({"memory.oom.group", "memory.min", "memory.low", "memory.high"})
"""Keys of a cgroup (v2) that loosen no limit."""

GUARDED = ("http", "sandbox", "worker")
"""Sections of config.yaml that an environment must not replace as a whole."""

GUARDED_KEYS = {
    "http__auth": ("token",),
    "sandbox__mode": ("enforce",),
    "sandbox__network__upstream": None,
    "worker__user": ("agent",),
}
"""What an environment may set these keys to; None: anything. No other of ``sandbox``."""

LOADED_FROM = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")


def _user(case: Case) -> Iterator[Loose]:
    user = object_of(case.process, "user")
    uid, gid = number_of(user, "uid"), number_of(user, "gid")
    expected = case.wanted["user"]
    if (uid, gid) != (expected, expected):
        yield "user", f"{uid}:{gid}", f"{expected}:{expected}"
    others = [group for group in list_of(user, "additionalgids", int) if group != expected]
    if others:
        yield "user", f"the groups {some(others)} too", f"the group {expected} alone"
    for kind in ("uidmappings", "gidmappings"):
        for entry in list_of(case.linux, kind, dict):
            inside, outside = number_of(entry, "containerid"), number_of(entry, "hostid")
            size = number_of(entry, "size")
            if inside is None or outside is None or size is None:
                raise Malformed(f"linux.{kind} has an entry without numbers")
            at = outside + expected - inside
            if inside <= expected < inside + size and at == 0 and not case.machine.is_mapped:
                yield "user", f"{kind} makes {expected} root of the machine", "another number"


def _root(case: Case) -> Iterator[Loose]:
    root = object_of(case.config, "root")
    if root.get("readonly") is not True:
        yield "root", "a writable root file system", "a read-only one"
    path = root.get("path")
    if not isinstance(path, str) or not path or "\0" in path:
        raise Malformed("root.path is no path")
    if case.machine.resolve(path) == "/":
        yield "root", "the machine's own root", "an image's"


def _privileges(case: Case) -> Iterator[Loose]:
    process = case.process
    if process.get("nonewprivileges") is not True:
        yield "new_privileges", "noNewPrivileges is not set", "noNewPrivileges"
    allowed = case.wanted["capabilities"]
    sets = object_of(process, "capabilities")
    found = {name for kind in sorted(sets) for name in list_of(sets, kind, str)} - set(allowed)
    if found:
        yield "capabilities", some(sorted(found)), some(allowed) if allowed else "none"


def _seccomp(case: Case) -> Iterator[Loose]:
    profile = object_of(case.linux, "seccomp")
    if not profile:
        yield "seccomp", "no profile", "seccomp.json of the agent"
        return
    default = profile.get("defaultaction")
    if str(default) not in DENYING:
        yield "seccomp", f"the default action {show(default)}", "one that denies"
    for key in ("listenerpath", "flags"):
        if profile.get(key):
            yield "seccomp", f"linux.seccomp.{key}", "none"
    if case.wanted["syscalls"] is None:
        return
    always, sometimes = set(case.wanted["syscalls"]), set(case.wanted["syscalls_if"])
    beyond = set()
    for rule in list_of(profile, "syscalls", dict):
        if str(rule.get("action")) not in DENYING:
            known = always | sometimes if list_of(rule, "args", dict) else always
            beyond |= set(list_of(rule, "names", str)) - known
    if beyond:
        yield "seccomp", f"a profile that allows {some(sorted(beyond))}", "the agent's own"


def _memory(case: Case) -> Iterator[Loose]:
    resources = case.resources
    memory, most = object_of(resources, "memory"), case.wanted["memory_bytes"]
    limit, swap = number_of(memory, "limit"), number_of(memory, "swap")
    if most is not None:
        if limit is None or not 0 < limit <= most:
            yield "memory", _limit(limit, "bytes"), f"at most {most} bytes"
        # OCI's number is of memory and swap together. A kubelet sees to swap itself, or sets none.
        elif not 0 < (swap or 0) <= most and (swap or case.wanted["limits_swap"]):
            yield "memory", f"{_limit(swap, 'bytes')} with swap", f"at most {most} bytes"
    if memory.get("disableoomkiller"):
        yield "memory", "disableOOMKiller", "the kernel's OOM killer"
    for key, value in sorted(object_of(resources, "unified").items()):
        if key not in FREE_UNIFIED and (key, value) != ("memory.swap.max", "0"):
            yield (
                "cgroup",
                f"linux.resources.unified sets {show(key)}",
                "limits by their own names",
            )


def _cpu(case: Case) -> Iterator[Loose]:
    cpu = object_of(case.resources, "cpu")
    if number_of(cpu, "realtimeruntime"):
        yield "cpu", "real-time scheduling", "none"
    most = case.wanted["cpu_cores"]
    if most is None:
        return
    quota, period = number_of(cpu, "quota"), number_of(cpu, "period")
    if quota is None or quota <= 0:
        yield "cpu", "no quota", f"at most {most:g} cores"
    # A tenth of a percent: engines round.
    elif quota > most * (period or 100_000) * 1.001:
        yield "cpu", f"{quota / (period or 100_000):g} cores", f"at most {most:g} cores"


def _processes(case: Case) -> Iterator[Loose]:
    most = case.wanted["processes"]
    pids = object_of(case.resources, "pids")
    limit = number_of(pids, "limit")
    if most is not None and (limit is None or not 0 < limit <= most):
        yield "processes", _limit(limit, "processes"), f"at most {most}"


def _limit(limit: int | None, unit: str) -> str:
    return "no limit" if limit is None or limit <= 0 else f"a limit of {limit} {unit}"


def _namespaces(case: Case) -> Iterator[Loose]:
    linux = case.linux
    found = {
        str(entry.get("type")): entry.get("path") for entry in list_of(linux, "namespaces", dict)
    }
    kinds = [*NAMESPACES, "cgroup"] if case.machine.is_unified else list(NAMESPACES)
    for kind in kinds:
        if kind not in found or kind in case.machine.shared:
            yield "namespaces", f"the machine's own {kind} namespace", "one of the container"
        elif found[kind] and kind not in case.wanted["joined_namespaces"]:
            yield "namespaces", f"the {kind} namespace of another container", "one of its own"
    if "shared" in str(linux.get("rootfspropagation")):
        yield "namespaces", "mounts that reach the machine (rootfsPropagation)", "private ones"


def _rlimits(case: Case) -> Iterator[Loose]:
    process = case.process
    found = {}
    for entry in list_of(process, "rlimits", dict):
        soft, hard = number_of(entry, "soft"), number_of(entry, "hard")
        if soft is None or hard is None:
            raise Malformed("process.rlimits has an entry without numbers")
        found[str(entry.get("type"))] = max(soft, hard)
    for kind, most in sorted(case.wanted["rlimits"].items()):
        if found.get(kind, most + 1) > most:
            shown = f"{kind} {found[kind]}" if kind in found else f"no {kind}"
            yield "rlimits", shown, f"at most {most}"
    for kind, most in (("RLIMIT_RTPRIO", 0), ("RLIMIT_NICE", 20)):
        if found.get(kind, 0) > most:
            yield "rlimits", f"{kind} {found[kind]}", f"at most {most}"
    score, least = number_of(process, "oomscoreadj"), case.wanted["oom_score"]
    if least is not None and score is not None and score < least:
        yield "oom_score", f"oomScoreAdj {score}", f"at least {least}"


def _environment(case: Case) -> Iterator[Loose]:
    for entry in list_of(case.process, "env", str):
        name, _, value = entry.partition("=")
        if name.startswith("AGENT_") and _is_guarded(name[len("AGENT_") :].lower(), value):
            yield "environment", f"{show(name)}={show(value)}", "what config.yaml says"
        elif name in LOADED_FROM or name == "AGENT_CONFIG":
            places = [posixpath.normpath(place) for place in value.replace(" ", ":").split(":")]
            if any(is_within(place, each) for place in places for each in case.wanted["volumes"]):
                yield "environment", f"{name}={show(value)}", "no code from where the agent writes"


def _is_guarded(key: str, value: str) -> bool:
    """Tell whether a variable says something that is for config.yaml alone; its case is no matter."""
    if key in GUARDED_KEYS:
        free = GUARDED_KEYS[key]
        return free is not None and value not in free
    return key in GUARDED or key.startswith("sandbox__")


def _extras(case: Case) -> Iterator[Loose]:
    process, linux = case.process, case.linux
    for key in sorted(object_of(linux, "sysctl")):
        if not key.startswith("net."):
            yield "sysctl", show(key), "none but net.*"
    for key in ("apparmorprofile", "selinuxlabel"):
        label = process.get(key)
        if isinstance(label, str) and ("unconfined" in label or "spc_t" in label):
            yield "confinement", f"{key} {show(label)}", "the engine's own"
    personality = object_of(linux, "personality")
    if personality and (personality.get("domain") != "LINUX" or personality.get("flags")):
        yield "personality", show(personality.get("domain")), "LINUX"
    policy = object_of(process, "scheduler").get("policy")
    if policy not in (None, "SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE"):
        yield "scheduler", show(policy), "SCHED_OTHER"
    for key in sorted(object_of(case.config, "annotations")):
        # crun's: they change groups, filters and which program runs the container.
        if key.startswith(
            ("run.oci.keep_", "run.oci.seccomp", "run.oci.handler", "run.oci.delegate")
        ):
            yield "annotations", show(key), "none that changes the runtime"


PROCESS_CHECKS: tuple[Callable[[Case], Iterator[Loose]], ...] = (
    _user,
    _root,
    _privileges,
    _seccomp,
    _memory,
    _cpu,
    _processes,
    _namespaces,
    _rlimits,
    _environment,
    _extras,
)

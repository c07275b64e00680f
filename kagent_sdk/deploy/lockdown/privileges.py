"""Compare what a container may be and do: user, root file system, capabilities, syscalls. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.facts import Lockdown, Role
from kagent_sdk.deploy.lockdown.loosening import Loosening
from kagent_sdk.deploy.lockdown.pod_security import SYSCTLS
from kagent_sdk.deploy.lockdown.spelling import spelling
from kagent_sdk.sandbox.policy import AGENT_ID

GPU = "nvidia"


def compare_privileges(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    """Yield what a manifest loosens of a container's privileges."""
    if found.is_privileged:
        place = found.place("is_privileged")
        yield Loosening("privileged", "no", "yes, which lifts all else", place, "remove it")
    if found.role is not Role.OTHER:
        yield from _user(found)
        yield from _syscalls(found)
    yield from _root(found)
    yield from _capabilities(found)
    yield from _lifted(found)
    yield from _devices(wanted, found)


def _user(found: Lockdown) -> Iterator[Loosening]:
    wanted = f"{AGENT_ID}:{AGENT_ID}"
    fix = spelling(found.kind, "user")
    for attribute, value in (("user", found.user), ("group", found.group)):
        place = found.place(attribute)
        if value in {"0", "root"}:
            yield Loosening("user", wanted, f"{attribute} {value}", place, fix)
        elif value is None:
            text = f"no {attribute} is named: the image decides"
            yield Loosening("user", wanted, text, place, fix, "warning")
        elif value != str(AGENT_ID):
            text = f"{attribute} {value}"
            yield Loosening("user", wanted, text, place, fix, "warning")
    for group in found.groups:
        if group.text != str(AGENT_ID):
            fix = "remove it: the agent's files are of its own group"
            text = f"also in group {group.text}"
            yield Loosening("user", wanted, text, group.where, fix, "warning")


def _syscalls(found: Lockdown) -> Iterator[Loosening]:
    place, wanted = found.place("seccomp"), "the policy's profile"
    fix = spelling(found.kind, "seccomp")
    if found.seccomp == "unconfined":
        yield Loosening("syscalls", wanted, "unconfined: every syscall", place, fix)
    elif "seccomp" in found.cannot:
        if found.seccomp is None:
            text = "no profile: unconfined on most nodes"
            yield Loosening("syscalls", "RuntimeDefault or a profile", text, place, fix)
    elif found.seccomp in {None, "default"}:
        text = "the engine's own, which allows user namespaces and AF_VSOCK"
        yield Loosening("syscalls", wanted, text, place, fix, "warning")


def _root(found: Lockdown) -> Iterator[Loosening]:
    if not found.is_root_read_only:
        place, fix = found.place("is_root_read_only"), spelling(found.kind, "read_only")
        yield Loosening("read_only_root", "read-only", "writable", place, fix)
    elif found.has_implicit_scratch:
        place = found.place("has_implicit_scratch")
        text = "podman mounts a writable /tmp, /run and /var/tmp"
        fix = spelling(found.kind, "scratch")
        yield Loosening("read_only_root", "no other scratch", text, place, fix, "warning")
    if not found.forbids_new_privileges:
        place = found.place("forbids_new_privileges")
        fix = spelling(found.kind, "no_new_privileges")
        yield Loosening("no_new_privileges", "forbidden", "allowed", place, fix)


def _capabilities(found: Lockdown) -> Iterator[Loosening]:
    if "ALL" not in found.dropped:
        dropped = ", ".join(found.dropped) or "none"
        place, fix = found.place("dropped"), spelling(found.kind, "cap_drop")
        yield Loosening("capabilities", "all dropped", f"dropped: {dropped}", place, fix)
    for added in found.added:
        yield Loosening("capabilities", "none", f"adds {added.text}", added.where, "remove it")


def _lifted(found: Lockdown) -> Iterator[Loosening]:
    for one in found.unconfined:
        yield Loosening("protections", "as the engine has them", one.text, one.where, "remove it")
    for one in found.namespaces:
        yield Loosening("namespaces", "its own", one.text, one.where, "remove it")
    for one in found.sysctls:
        if one.text.partition("=")[0] not in SYSCTLS:
            yield Loosening("sysctls", "those of a container", one.text, one.where, "remove it")


def _devices(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    for device in found.devices:
        if not (wanted.gpus and GPU in device.text):
            yield Loosening("devices", "none", device.text, device.where, "remove it")
    if found.gpus > wanted.gpus or found.gpus < 0:
        text = "all GPUs" if found.gpus < 0 else f"{found.gpus} GPUs"
        if found.gpus > 0 or not wanted.gpus:
            fix = "set limits.gpus in config.yaml, or take fewer"
            place = found.place("gpus")
            yield Loosening("devices", f"{wanted.gpus} GPUs", text, place, fix, "warning")

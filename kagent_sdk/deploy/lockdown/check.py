"""Compare a manifest of any kind with the policy: kos-agent export TARGET --check FILE. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.compare import compare
from kagent_sdk.deploy.lockdown.compose import read_compose
from kagent_sdk.deploy.lockdown.data import at
from kagent_sdk.deploy.lockdown.docker_run import read_docker_run
from kagent_sdk.deploy.lockdown.documents import read_documents
from kagent_sdk.deploy.lockdown.facts import Lockdown, Role
from kagent_sdk.deploy.lockdown.kubernetes import Pod, read_pods
from kagent_sdk.deploy.lockdown.kubernetes_containers import read_containers
from kagent_sdk.deploy.lockdown.loosening import Loosening, sort_loosenings
from kagent_sdk.deploy.lockdown.pod_security import Violation, find_violations
from kagent_sdk.deploy.lockdown.quadlet import Beside, read_quadlet
from kagent_sdk.deploy.lockdown.seccomp_profile import compare_profile
from kagent_sdk.errors import DeployError

Check = Callable[[str, Deployment, Beside], tuple[Loosening, ...]]

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "nsjail": "a configuration of nsjail cannot be compared; export it again instead",
        "oci-hook": "a hook has nothing to compare: it judges each bundle itself, when a container starts",
    }
)
"""Targets whose manifests are not compared, and why."""

_PART = re.compile(r"(?P<key>[^.\[\]]+)|\[(?P<index>[0-9]+)\]")


def check(
    target: str, text: str, wanted: Deployment, beside: Beside = lambda _: None
) -> tuple[Loosening, ...]:
    """Return everything that a manifest loosens; empty: it holds what the policy wants.

    Args:
        target: what kind of manifest it is, such as ``compose``.
        text: the manifest.
        wanted: what the agent's configuration wants of a container.
        beside: returns the text of a file beside it, by its name.

    Raises:
        DeployError: it cannot be read as one of that kind; the message says which kind it is like.
    """
    if target not in CHECKS:
        known = ", ".join(CHECKS)
        raise DeployError(
            REFUSED.get(target, f"manifests of {target} are not compared; of {known} are")
        )
    like = kind_of(text)
    if like is not None and like != target:
        raise DeployError(f"this is no manifest for {target}; it is like one for {like}")
    return CHECKS[target](text, wanted, beside)


def kind_of(text: str) -> str | None:
    """Return the target whose manifests look like a text; None: it is like none of them."""
    if re.search(r"^\[Container\]\s*$", text, re.MULTILINE):
        return "quadlet"
    if re.search(r"^[^#\n]*\b(podman|docker|nerdctl)\b.*\b(run|create)\b", text, re.MULTILINE):
        return "docker-run" if _document(text) is None else _yaml_kind(text)
    return _yaml_kind(text)


def _yaml_kind(text: str) -> str | None:
    value = _document(text)
    if at(value, "kind") is not None and at(value, "apiVersion") is not None:
        return "kubernetes"
    if at(value, "defaultAction") is not None:
        return "seccomp"
    return "compose" if at(value, "services") is not None else None


def _document(text: str) -> dict[str, object] | None:
    try:
        documents = read_documents(text)
    except DeployError:
        return None
    values = [document.value for document in documents]
    return next((value for value in values if isinstance(value, dict)), None)


def _check_compose(text: str, wanted: Deployment, beside: Beside) -> tuple[Loosening, ...]:
    return _compare_all(wanted, read_compose(text, wanted), beside)


def _check_docker_run(text: str, wanted: Deployment, beside: Beside) -> tuple[Loosening, ...]:
    return _compare_all(wanted, read_docker_run(text, wanted), beside)


def _check_quadlet(text: str, wanted: Deployment, beside: Beside) -> tuple[Loosening, ...]:
    return _compare_all(wanted, read_quadlet(text, wanted, beside), beside)


def _check_seccomp(text: str, wanted: Deployment, _beside: Beside) -> tuple[Loosening, ...]:
    return compare_profile(text, wanted)


def _check_kubernetes(text: str, wanted: Deployment, _beside: Beside) -> tuple[Loosening, ...]:
    documents, pods = read_pods(text, wanted)
    found = [one for pod in pods for one in read_containers(documents, pod, wanted)]
    loosenings = _compare_all(wanted, tuple(found), lambda _: None)
    # What both say, the policy says better.
    told = {loosening.where for loosening in loosenings}
    standard = [one for pod in pods for one in _standard(pod) if one.where not in told]
    return sort_loosenings([*loosenings, *standard])


def _standard(pod: Pod) -> Iterator[Loosening]:
    for violation in find_violations(pod.annotations, pod.spec):
        where = _place(pod, violation)
        fix = "the Pod Security Standard restricted refuses it"
        yield Loosening(violation.check, violation.allowed, violation.found, where, fix)


def _place(pod: Pod, violation: Violation) -> str:
    path = [
        part["key"] if part["index"] is None else int(part["index"])
        for part in _PART.finditer(violation.where)
    ]
    return pod.where(*path, label=violation.where)


def _compare_all(
    wanted: Deployment, found: tuple[Lockdown, ...], beside: Beside
) -> tuple[Loosening, ...]:
    if not any(lockdown.role is Role.AGENT for lockdown in found):
        raise DeployError("the egress proxy is in it, and the agent is not")
    loosenings: list[Loosening] = []
    for lockdown in found:
        loosenings += compare(wanted, lockdown)
        loosenings += _profile(wanted, lockdown, beside)
    return sort_loosenings(loosenings)


def _profile(wanted: Deployment, found: Lockdown, beside: Beside) -> Iterator[Loosening]:
    """Compare the profile that a container names too, where it lies beside the manifest."""
    name = posixpath.basename(found.seccomp or "")
    text = beside(name) if name not in {"", "default", "unconfined"} else None
    if text is None:
        return
    try:
        loosenings = compare_profile(text, wanted)
    except DeployError as exc:
        raise DeployError(f"{name} beside it: {exc}") from None
    for one in loosenings:
        yield replace(one, where=f"{name}: {one.where}")


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "compose": _check_compose,
        "docker-run": _check_docker_run,
        "kubernetes": _check_kubernetes,
        "quadlet": _check_quadlet,
        "seccomp": _check_seccomp,
    }
)
"""How manifests of each target are compared."""

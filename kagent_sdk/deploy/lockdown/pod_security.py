"""Kubernetes' Pod Security Standard ``restricted``: what of a Pod breaks it. Pure.

All controls of ``baseline`` and ``restricted`` as of Kubernetes 1.38, for Linux
(https://kubernetes.io/docs/concepts/security/pod-security-standards/). Where a control allows
more in newer releases or with a feature gate (user namespaces), the strict reading is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kagent_sdk.deploy.lockdown.data import at, items, mapping, numbered, shown

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

VOLUME_TYPES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""Those that ``restricted`` allows."""

SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""Those that concern a Pod alone."""

SELINUX_TYPES = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_ANNOTATIONS = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
PROFILE_TYPES = frozenset({"RuntimeDefault", "Localhost"})

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a Pod that breaks the standard.

    Attributes:
        check: the standard's name for it, as Kubernetes' admission has it.
        where: in the Pod, such as ``spec.containers[0].securityContext.privileged``.
        found: what stands there.
        allowed: what may.
    """

    check: str
    where: str
    found: str
    allowed: str


def find_violations(annotations: Any, spec: Any) -> tuple[Violation, ...]:
    """Return everything of a Pod that ``restricted`` refuses; empty: it is admitted.

    Args:
        annotations: of the Pod's metadata, as parsed.
        spec: of the Pod, as parsed; of any shape.
    """
    spec = mapping(spec)
    context = at(spec, "securityContext")
    found = [
        *_annotations(mapping(annotations)),
        *_host_namespaces(spec),
        *_volumes(spec),
        *_sysctls(context),
        *_pod_context(context),
    ]
    for kind in CONTAINERS:
        for where, container in numbered(spec.get(kind), f"spec.{kind}"):
            found += _container(container, mapping(context), where)
    return tuple(found)


def _annotations(annotations: dict[str, Any]) -> Iterator[Violation]:
    for name, value in annotations.items():
        where = f"metadata.annotations[{name}]"
        if name.startswith(APPARMOR_ANNOTATION) and not _is_apparmor(value):
            yield Violation("appArmorProfile", where, shown(value), "runtime/default")
        if name.startswith(SECCOMP_ANNOTATIONS) and value == "unconfined":
            yield Violation("seccompProfile", where, shown(value), "runtime/default")


def _is_apparmor(value: Any) -> bool:
    return value in (None, "", "runtime/default") or str(value).startswith("localhost/")


def _host_namespaces(spec: dict[str, Any]) -> Iterator[Violation]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) not in (None, False):
            yield Violation("hostNamespaces", f"spec.{field}", shown(spec[field]), "false")


def _volumes(spec: dict[str, Any]) -> Iterator[Violation]:
    for where, volume in numbered(spec.get("volumes"), "spec.volumes"):
        for kind in sorted(volume.keys() - VOLUME_TYPES - {"name"}):
            check = "hostPathVolumes" if kind == "hostPath" else "restrictedVolumes"
            yield Violation(check, f"{where}.{kind}", kind, "emptyDir, a claim, a Secret")


def _sysctls(context: Any) -> Iterator[Violation]:
    for where, sysctl in numbered(at(context, "sysctls"), "spec.securityContext.sysctls"):
        if shown(sysctl.get("name")) not in SYSCTLS:
            yield Violation("sysctls", where, shown(sysctl.get("name")), "those of a Pod alone")


def _pod_context(context: Any) -> Iterator[Violation]:
    where = "spec.securityContext"
    yield from _shared(mapping(context), where)
    if at(context, "runAsNonRoot") not in (None, True):
        yield Violation(
            "runAsNonRoot", f"{where}.runAsNonRoot", shown(at(context, "runAsNonRoot")), "true"
        )


def _shared(context: dict[str, Any], where: str) -> Iterator[Violation]:
    """Judge what a Pod and a container may both say."""
    if context.get("runAsUser") is not None and not _is_positive(context["runAsUser"]):
        yield Violation("runAsUser", f"{where}.runAsUser", shown(context["runAsUser"]), "not 0")
    for field, check in (
        ("seccompProfile", "seccompProfile"),
        ("appArmorProfile", "appArmorProfile"),
    ):
        if (
            context.get(field) is not None
            and shown(at(context, field, "type")) not in PROFILE_TYPES
        ):
            kind = shown(at(context, field, "type"))
            yield Violation(check, f"{where}.{field}.type", kind, "RuntimeDefault or Localhost")
    options = mapping(context.get("seLinuxOptions"))
    if shown(options.get("type") or "") not in SELINUX_TYPES:
        place = f"{where}.seLinuxOptions.type"
        yield Violation("seLinuxOptions", place, shown(options["type"]), "container_t")
    for field in ("user", "role"):
        if options.get(field):
            place = f"{where}.seLinuxOptions.{field}"
            yield Violation("seLinuxOptions", place, shown(options[field]), "nothing")
    if at(context, "windowsOptions", "hostProcess") not in (None, False):
        place = f"{where}.windowsOptions.hostProcess"
        yield Violation("windowsHostProcess", place, "true", "false")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _container(container: dict[str, Any], pod: dict[str, Any], where: str) -> Iterator[Violation]:
    context = mapping(container.get("securityContext"))
    place = f"{where}.securityContext"
    yield from _privileges(context, place)
    yield from _capabilities(mapping(context.get("capabilities")), f"{place}.capabilities")
    yield from _shared(context, place)
    yield from _inherited(context, pod, place)
    yield from _new_fields(context, place)
    for port_where, port in numbered(container.get("ports"), f"{where}.ports"):
        if port.get("hostPort") not in (None, 0):
            yield Violation("hostPorts", f"{port_where}.hostPort", shown(port["hostPort"]), "0")
    yield from _hosts(container, where)


def _privileges(context: dict[str, Any], where: str) -> Iterator[Violation]:
    if context.get("privileged") not in (None, False):
        yield Violation("privileged", f"{where}.privileged", shown(context["privileged"]), "false")
    escalation = context.get("allowPrivilegeEscalation")
    if escalation is not False:
        place = f"{where}.allowPrivilegeEscalation"
        yield Violation("allowPrivilegeEscalation", place, shown(escalation), "false")


def _capabilities(capabilities: dict[str, Any], where: str) -> Iterator[Violation]:
    if "ALL" not in [item for item in items(capabilities.get("drop")) if isinstance(item, str)]:
        dropped = ", ".join(map(shown, items(capabilities.get("drop")))) or "nothing"
        yield Violation("capabilities", f"{where}.drop", dropped, "ALL")
    added = capabilities.get("add")
    for name in added if isinstance(added, list) else [] if added is None else [added]:
        if name != "NET_BIND_SERVICE":
            yield Violation("capabilities", f"{where}.add", shown(name), "nothing")


def _inherited(context: dict[str, Any], pod: dict[str, Any], where: str) -> Iterator[Violation]:
    """Judge what a container may leave to its Pod."""
    own, inherited = context.get("runAsNonRoot"), pod.get("runAsNonRoot")
    if own is not True and (own is not None or inherited is None):
        yield Violation("runAsNonRoot", f"{where}.runAsNonRoot", shown(own), "true")
    if context.get("seccompProfile") is None and pod.get("seccompProfile") is None:
        place = f"{where}.seccompProfile"
        yield Violation("seccompProfile", place, "nothing", "RuntimeDefault or Localhost")


def _new_fields(context: dict[str, Any], where: str) -> Iterator[Violation]:
    if context.get("procMount") not in (None, "Default"):
        yield Violation("procMount", f"{where}.procMount", shown(context["procMount"]), "Default")
    if context.get("ulimits") is not None:
        yield Violation("ulimits", f"{where}.ulimits", "limits of its own", "nothing")
    mode = at(context, "cgroupOptions", "mountMode")
    if mode not in (None, "ReadOnly"):
        place = f"{where}.cgroupOptions.mountMode"
        yield Violation("cgroupOptions", place, shown(mode), "ReadOnly")


def _hosts(container: dict[str, Any], where: str) -> Iterator[Violation]:
    """Find probes and hooks by which the kubelet is sent somewhere else."""
    handlers = [(name, container.get(name)) for name in _PROBES]
    handlers += [(f"lifecycle.{name}", at(container, "lifecycle", name)) for name in _HOOKS]
    for name, handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            host = at(handler, kind, "host")
            if host not in (None, ""):
                place = f"{where}.{name}.{kind}.host"
                yield Violation("hostProbesAndHostLifecycle", place, shown(host), "nothing")

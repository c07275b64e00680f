"""Read the containers of a Pod. Pure."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass, replace
from typing import Any

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.data import at, items, mapping, numbered, shown, texts
from kagent_sdk.deploy.lockdown.documents import Document
from kagent_sdk.deploy.lockdown.draft import Draft
from kagent_sdk.deploy.lockdown.facts import Joined, Lockdown, Mount, Network, Role
from kagent_sdk.deploy.lockdown.kubernetes import Pod
from kagent_sdk.deploy.lockdown.kubernetes_fields import CONTAINER, CONTEXT, POD, POD_CONTEXT
from kagent_sdk.deploy.lockdown.pod_security import CONTAINERS
from kagent_sdk.deploy.lockdown.policies import networks_of, selects
from kagent_sdk.deploy.lockdown.quantities import kubernetes_amount, number
from kagent_sdk.deploy.lockdown.roles import repository, role_of
from kagent_sdk.errors import DeployError

NO_WORDS = frozenset({"pids", "swap_bytes", "ulimits", "seccomp"})
"""What a Pod cannot say, or (seccomp) has a word for that serves: ``RuntimeDefault``."""

PROBES = ("livenessProbe", "readinessProbe")
GPU_RESOURCE = "nvidia.com/gpu"
PLAIN_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage", GPU_RESOURCE})
ONCE = ("Job", "CronJob")
"""Kinds whose Pods nobody calls."""


def read_containers(
    documents: tuple[Document, ...], pod: Pod, wanted: Deployment
) -> tuple[Lockdown, ...]:
    """Return the facts of a Pod's containers; those of the whole Pod are with the agent's.

    Raises:
        DeployError: it has none.
    """
    containers = [
        _Container(pod, kind, position, mapping(container))
        for kind in CONTAINERS
        for position, container in enumerate(items(pod.spec.get(kind)))
    ]
    if not containers:
        raise DeployError(f"{pod.name} has no containers")
    main = _main(containers, wanted)
    return tuple(
        _with_pod(documents, pod, one.read(role_of(wanted, one.command)), wanted)
        if one is main
        else one.read(Role.OTHER)
        for one in containers
    )


def _main(containers: list[_Container], wanted: Deployment) -> _Container:
    own = [one for one in containers if one.kind == "containers"] or containers
    ours = [one for one in own if repository(one.image) == repository(wanted.image)]
    named = [one for one in own if one.name in {wanted.name, "agent"}]
    return (ours or named or own)[0]


def _blocks(wanted: Deployment) -> frozenset[str]:
    """Return the addresses of the allow-list, as NetworkPolicies spell them."""
    blocks = set()
    for destination in wanted.policy.network.allow:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(destination.host)
            blocks.add(f"{address}/{address.max_prefixlen}")
    return frozenset(blocks)


def _with_pod(
    documents: tuple[Document, ...], pod: Pod, found: Lockdown, wanted: Deployment
) -> Lockdown:
    draft = Draft(pod.name, "kubernetes", pod.place("spec"))
    _read_pod(draft, pod)
    if not any(joined.network is Network.HOST for joined in draft.lists.get("networks", [])):
        place = pod.place("spec")
        for joined in networks_of(documents, pod.namespace, pod.labels, place, _blocks(wanted)):
            draft.add("networks", joined)
    _read_services(draft, documents, pod)
    shared = draft.finish(found.role, NO_WORDS)
    return replace(
        found,
        groups=shared.groups,
        sysctls=shared.sysctls,
        namespaces=shared.namespaces,
        networks=shared.networks,
        exposes=shared.exposes,
        unknown=found.unknown + shared.unknown,
        stop_s=shared.stop_s,
        places={**found.places, "stop_s": shared.place("stop_s")},
    )


def _read_pod(draft: Draft, pod: Pod) -> None:
    spec = pod.spec
    for field in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(field) not in (None, False):
            draft.state("namespaces", f"{field}: {shown(spec[field])}", pod.place("spec", field))
    if spec.get("hostNetwork") not in (None, False):
        where = pod.place("spec", "hostNetwork")
        draft.add("networks", Joined("hostNetwork", Network.HOST, where))
    if spec.get("automountServiceAccountToken") is not False:
        where = pod.place("spec", "automountServiceAccountToken")
        draft.state("exposes", "a token of the cluster (automountServiceAccountToken)", where)
    for place, volume in numbered(spec.get("volumes"), "spec.volumes"):
        sources = items(at(volume, "projected", "sources"))
        if any("serviceAccountToken" in mapping(source) for source in sources):
            draft.state(
                "exposes",
                "a token of the cluster (projected)",
                pod.where("spec", "volumes", label=place),
            )
    if spec.get("terminationGracePeriodSeconds") is not None:
        where = pod.place("spec", "terminationGracePeriodSeconds")
        draft.stop(spec["terminationGracePeriodSeconds"], where)
    for field in sorted(spec.keys() - POD):
        draft.unknown(field, pod.place("spec", field))
    _read_pod_context(draft, pod, mapping(spec.get("securityContext")))


def _read_pod_context(draft: Draft, pod: Pod, context: dict[str, Any]) -> None:
    for field in ("fsGroup", "supplementalGroups"):
        for text in texts(context.get(field)):
            draft.state("groups", text, pod.place("spec", "securityContext", field))
    for place, sysctl in numbered(context.get("sysctls"), "spec.securityContext.sysctls"):
        where = pod.where("spec", "securityContext", "sysctls", label=place)
        draft.state("sysctls", shown(sysctl.get("name")), where)
    for field in sorted(context.keys() - POD_CONTEXT):
        draft.unknown(field, pod.place("spec", "securityContext", field))


def _read_services(draft: Draft, documents: tuple[Document, ...], pod: Pod) -> None:
    for document in documents:
        spec = at(document.value, "spec")
        if at(document.value, "kind") != "Service":
            continue
        selector = {"matchLabels": at(spec, "selector")}
        if at(spec, "selector") and selects(selector, pod.labels):
            name = shown(at(document.value, "metadata", "name"))
            where = document.where("spec", "type", label=f"Service/{name} spec.type")
            if shown(at(spec, "type") or "ClusterIP") not in {"ClusterIP", "ExternalName"}:
                text = f"a Service of type {shown(at(spec, 'type'))}"
                draft.state("exposes", text, where)
            if at(spec, "externalIPs"):
                draft.state("exposes", "a Service with addresses outside", where)


@dataclass(frozen=True, slots=True)
class _Container:
    """A container that is being read."""

    pod: Pod
    kind: str
    position: int
    value: dict[str, Any]

    @property
    def name(self) -> str:
        return shown(self.value.get("name"))

    @property
    def image(self) -> str:
        return shown(self.value.get("image"))

    @property
    def command(self) -> tuple[str, ...]:
        command, args = texts(self.value.get("command")), texts(self.value.get("args"))
        # Without a command the arguments are those of the image's entrypoint.
        return (*(command or ["kos-agent", "run"]), *args) if command or args else ()

    @property
    def context(self) -> dict[str, Any]:
        return mapping(self.value.get("securityContext"))

    @property
    def pod_context(self) -> dict[str, Any]:
        return mapping(self.pod.spec.get("securityContext"))

    def place(self, *path: str | int) -> str:
        return self.pod.place("spec", self.kind, self.position, *path)

    def read(self, role: Role) -> Lockdown:
        draft = Draft(self.name, "kubernetes", self.place())
        draft.say("image", self.image, self.place("image"))
        draft.say("command", self.command, self.place("command"))
        self._read_identity(draft)
        self._read_privileges(draft)
        self._read_seccomp(draft)
        self._read_limits(draft)
        self._read_mounts(draft)
        self._read_environment(draft)
        if role is Role.AGENT and self.kind == "containers":
            self._read_probes(draft)
        for field in sorted(self.value.keys() - CONTAINER):
            draft.unknown(field, self.place(field))
        for field in sorted(self.context.keys() - CONTEXT):
            draft.unknown(field, self.place("securityContext", field))
        return draft.finish(role, NO_WORDS)

    def _inherited(self, field: str, *inside: str) -> tuple[Any, str]:
        """Return a value of the container or else of its Pod, and where it, or a part, stands."""
        own, shared = self.context.get(field), self.pod_context.get(field)
        if own is None and shared is not None:
            return shared, self.pod.place("spec", "securityContext", field, *inside)
        return own, self.place("securityContext", field, *(() if own is None else inside))

    def _read_identity(self, draft: Draft) -> None:
        for attribute, field in (("user", "runAsUser"), ("group", "runAsGroup")):
            value, where = self._inherited(field)
            draft.say(attribute, None if value is None else shown(value), where)

    def _read_privileges(self, draft: Draft) -> None:
        context = self.context
        place = self.place("securityContext", "privileged")
        draft.say("is_privileged", context.get("privileged") not in (None, False), place)
        place = self.place("securityContext", "readOnlyRootFilesystem")
        draft.say("is_root_read_only", context.get("readOnlyRootFilesystem") is True, place)
        place = self.place("securityContext", "allowPrivilegeEscalation")
        escalation = context.get("allowPrivilegeEscalation")
        draft.say("forbids_new_privileges", escalation is False, place)
        place = self.place("securityContext", "capabilities", "drop")
        draft.places["dropped"] = place
        for name in texts(at(context, "capabilities", "drop")):
            draft.add("dropped", name)  # Kubernetes takes ALL in capitals alone
        place = self.place("securityContext", "capabilities", "add")
        for name in texts(at(context, "capabilities", "add")):
            draft.capability(name, place, is_added=True)

    def _read_seccomp(self, draft: Draft) -> None:
        profile, where = self._inherited("seccompProfile", "type")
        if profile is None:
            draft.say("seccomp", None, where)
            return
        kind = shown(at(profile, "type"))
        named = shown(at(profile, "localhostProfile"))
        known = {"RuntimeDefault": "default", "Localhost": named}
        draft.say("seccomp", known.get(kind, "unconfined"), where)

    def _read_limits(self, draft: Draft) -> None:
        limits = mapping(at(self.value, "resources", "limits"))
        for name, attribute in (("memory", "memory_bytes"), ("cpu", "cpu_cores")):
            place = self.place("resources", "limits", name)
            amount = kubernetes_amount(limits.get(name))
            if amount is None and limits.get(name) is not None:
                draft.unknown(f"{name} {shown(limits[name])}", place)
            elif amount is not None:
                draft.say(attribute, int(amount) if name == "memory" else amount, place)
        if limits.get(GPU_RESOURCE) is not None:
            count = number(limits[GPU_RESOURCE])
            place = self.place("resources", "limits", GPU_RESOURCE)
            draft.say("gpus", -1 if count is None else int(count), place)
        for name in sorted(limits.keys() - PLAIN_RESOURCES):
            if not name.startswith("hugepages-"):
                draft.state("devices", name, self.place("resources", "limits", name))

    def _read_mounts(self, draft: Draft) -> None:
        volumes = self.pod.volumes()
        for position, mount in enumerate(items(self.value.get("volumeMounts"))):
            where = self.place("volumeMounts", position)
            name = shown(at(mount, "name"))
            kind, source = volumes.get(name, ("", name))
            if not kind:
                draft.unknown(f"volume {name}, which is not there", where)
                continue
            is_writable = at(mount, "readOnly") is not True
            target = shown(at(mount, "mountPath"))
            draft.add("mounts", Mount(source, target, kind, is_writable, (), where))
            if at(mount, "mountPropagation") == "Bidirectional":
                draft.state("unconfined", "mounts reach the node (Bidirectional)", where)

    def _read_environment(self, draft: Draft) -> None:
        for position, variable in enumerate(items(self.value.get("env"))):
            name, value = shown(at(variable, "name")), at(variable, "value")
            text = name if value is None else f"{name}={shown(value)}"
            draft.variable(text, self.place("env", position))
        if self.value.get("envFrom"):
            draft.unknown("envFrom: what is said elsewhere", self.place("envFrom"))

    def _read_probes(self, draft: Draft) -> None:
        if self.pod.name.partition("/")[0] in ONCE:
            return
        for probe in PROBES:
            if not mapping(self.value.get(probe)):
                draft.state("health", f"there is no {probe}", self.place(probe))

"""Our validator says what Kubernetes' own says of the fixtures that it publishes.

The names are those of the files in the Kubernetes repository, under
``staging/src/k8s.io/pod-security-admission/test/testdata/restricted/v1.*/{pass,fail}``; what each stands for
is built here, on a Pod of our own. A fixture of several releases is judged by the strictest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kagent_sdk.deploy.lockdown.pod_security import find_violations

Pod = dict[str, Any]
Change = Callable[[Pod], None]

BASELINE_CAPABILITIES = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
]

APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"


def minimal_pod() -> Pod:
    """Return the least that the standard admits."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"name": "base", "annotations": {}},
        "spec": {
            "initContainers": [
                {"name": "init", "image": "pause", "securityContext": copy.deepcopy(context)}
            ],
            "containers": [
                {"name": "main", "image": "pause", "securityContext": copy.deepcopy(context)}
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }


def put(value: Any, *path: str | int) -> Change:
    """Return a change that sets a value; mappings on the way are made."""

    def change(pod: Pod) -> None:
        here: Any = pod
        for key in path[:-1]:
            here = here[key] if isinstance(key, int) else here.setdefault(key, {})
        here[path[-1]] = copy.deepcopy(value)

    return change


def drop(*path: str | int) -> Change:
    """Return a change that takes something away, if it is there."""

    def change(pod: Pod) -> None:
        here: Any = pod
        for key in path[:-1]:
            here = here[key]
        here.pop(path[-1], None)

    return change


def main(value: Any, *path: str | int) -> Change:
    """Return a change of the container."""
    return put(value, "spec", "containers", 0, *path)


def init(value: Any, *path: str | int) -> Change:
    """Return a change of the init container."""
    return put(value, "spec", "initContainers", 0, *path)


def pod(value: Any, *path: str | int) -> Change:
    """Return a change of the Pod's spec."""
    return put(value, "spec", *path)


def volume(kind: str, value: Any = None) -> Change:
    """Return a change that adds one volume."""
    return pod([{"name": "volume1", kind: value or {"test": "test"}}], "volumes")


def sysctls(*names: str) -> Change:
    """Return a change that sets sysctls."""
    entries = [{"name": name, "value": "0"} for name in names]
    return pod(entries, "securityContext", "sysctls")


def seccomp(kind: str) -> dict[str, str]:
    """Return a profile of a kind."""
    return {"type": kind, **({"localhostProfile": "testing"} if kind == "Localhost" else {})}


ON, OFF = True, False

OWN = ("securityContext",)
CAPABILITIES = (*OWN, "capabilities")
PROFILE = (*OWN, "seccompProfile")
NO_PROFILE = drop("spec", "securityContext", "seccompProfile")

PASS: dict[str, tuple[Change, ...]] = {
    "base": (),
    "base_linux": (pod("linux", "os", "name"),),
    "apparmorprofile0": (put("localhost/foo", "metadata", "annotations", f"{APPARMOR}main"),),
    "capabilities_restricted0": (
        main(["NET_BIND_SERVICE"], *CAPABILITIES, "add"),
        init(["NET_BIND_SERVICE"], *CAPABILITIES, "add"),
    ),
    "cgroupoptions0": (),
    "cgroupoptions1": (
        main("ReadOnly", *OWN, "cgroupOptions", "mountMode"),
        init("ReadOnly", *OWN, "cgroupOptions", "mountMode"),
    ),
    "hostports0": (
        main([{"containerPort": 12345}], "ports"),
        init([{"containerPort": 12346}], "ports"),
    ),
    "hostprobesandhostlifecycle0": (),
    "hostprobesandhostlifecycle1": (main({"port": 8080}, "livenessProbe", "httpGet"),),
    "hostprobesandhostlifecycle2": (main({"port": 8080}, "readinessProbe", "tcpSocket"),),
    "privileged0": (main(OFF, *OWN, "privileged"), init(OFF, *OWN, "privileged")),
    "procmount0": (
        main("Default", *OWN, "procMount"),
        init("Default", *OWN, "procMount"),
        pod(OFF, "hostUsers"),
    ),
    "restrictedvolumes0": (
        pod(
            [
                {"name": "volume0"},
                {"name": "volume1", "emptyDir": {}},
                {"name": "volume2", "secret": {"secretName": "test"}},
                {"name": "volume3", "persistentVolumeClaim": {"claimName": "test"}},
                {"name": "volume4", "downwardAPI": {"items": []}},
                {"name": "volume5", "configMap": {"name": "test"}},
                {"name": "volume6", "projected": {"sources": []}},
            ],
            "volumes",
        ),
    ),
    "runasnonroot0": (),
    "runasnonroot1": (
        drop("spec", "securityContext", "runAsNonRoot"),
        main(ON, *OWN, "runAsNonRoot"),
        init(ON, *OWN, "runAsNonRoot"),
    ),
    "runasuser0": (
        pod(1000, *OWN, "runAsUser"),
        main(1000, *OWN, "runAsUser"),
        init(1000, *OWN, "runAsUser"),
    ),
    "seccompprofile_restricted0": (pod(seccomp("RuntimeDefault"), *PROFILE),),
    "seccompprofile_restricted1": (pod(seccomp("Localhost"), *PROFILE),),
    "seccompprofile_restricted2": (
        NO_PROFILE,
        main(seccomp("RuntimeDefault"), *PROFILE),
        init(seccomp("Localhost"), *PROFILE),
    ),
    "selinuxoptions0": (init({}, *OWN, "seLinuxOptions"),),
    "selinuxoptions1": (
        pod({"type": "container_t", "level": ""}, *OWN, "seLinuxOptions"),
        main({"type": "container_init_t", "level": "somevalue"}, *OWN, "seLinuxOptions"),
        init({"type": "container_kvm_t"}, *OWN, "seLinuxOptions"),
    ),
    "sysctls0": (),
    "sysctls1": (
        sysctls(
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ),
    ),
}
"""What Kubernetes admits, by the names of its fixtures."""

VOLUMES = (
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "hostPath",
)

FAIL: dict[str, tuple[Change, ...]] = {
    "allowprivilegeescalation0": (main(ON, *OWN, "allowPrivilegeEscalation"),),
    "allowprivilegeescalation1": (init(ON, *OWN, "allowPrivilegeEscalation"),),
    "allowprivilegeescalation2": (
        drop("spec", "containers", 0, "securityContext", "allowPrivilegeEscalation"),
    ),
    "allowprivilegeescalation3": (drop("spec", "containers", 0, "securityContext"),),
    "apparmorprofile0": (put("unconfined", "metadata", "annotations", f"{APPARMOR}main"),),
    "apparmorprofile1": (put("unconfined", "metadata", "annotations", f"{APPARMOR}init"),),
    "baselinevolumes0": (volume("gitRepo"),),
    "capabilities_baseline0": (main(["NET_RAW"], *CAPABILITIES, "add"),),
    "capabilities_baseline1": (init(["NET_RAW"], *CAPABILITIES, "add"),),
    "capabilities_baseline2": (main(["chown"], *CAPABILITIES, "add"),),
    "capabilities_baseline3": (main(["CAP_CHOWN"], *CAPABILITIES, "add"),),
    "capabilities_restricted0": (main([], *CAPABILITIES, "drop"),),
    "capabilities_restricted1": (init([], *CAPABILITIES, "drop"),),
    "capabilities_restricted2": (
        main(["SYS_ADMIN", *BASELINE_CAPABILITIES], *CAPABILITIES, "drop"),
        init(["SYS_ADMIN", *BASELINE_CAPABILITIES], *CAPABILITIES, "drop"),
    ),
    "capabilities_restricted3": (
        main(BASELINE_CAPABILITIES, *CAPABILITIES, "add"),
        init(BASELINE_CAPABILITIES, *CAPABILITIES, "add"),
    ),
    "cgroupoptions0": (main("Writable", *OWN, "cgroupOptions", "mountMode"),),
    "cgroupoptions1": (init("Writable", *OWN, "cgroupOptions", "mountMode"),),
    "hostnamespaces0": (pod(ON, "hostIPC"),),
    "hostnamespaces1": (pod(ON, "hostNetwork"),),
    "hostnamespaces2": (pod(ON, "hostPID"),),
    "hostpathvolumes0": (
        pod([{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/a"}}], "volumes"),
    ),
    "hostpathvolumes1": (
        pod(
            [
                {"name": "a", "hostPath": {"path": "/a"}},
                {"name": "b", "hostPath": {"path": "/b"}},
            ],
            "volumes",
        ),
    ),
    "hostports0": (main([{"containerPort": 12345, "hostPort": 12345}], "ports"),),
    "hostports1": (init([{"containerPort": 12346, "hostPort": 12346}], "ports"),),
    "hostports2": (
        main([{"containerPort": 1, "hostPort": 1}, {"containerPort": 2}], "ports"),
        init([{"containerPort": 3, "hostPort": 3}, {"containerPort": 4}], "ports"),
    ),
    "hostprobesandhostlifecycle0": (main("bad.host", "livenessProbe", "httpGet", "host"),),
    "hostprobesandhostlifecycle1": (init("8.8.8.8", "readinessProbe", "tcpSocket", "host"),),
    "hostprobesandhostlifecycle2": (main("bad.host", "lifecycle", "postStart", "httpGet", "host"),),
    "hostprobesandhostlifecycle3": (main("127.0.0.1", "livenessProbe", "httpGet", "host"),),
    "hostprobesandhostlifecycle4": (main("::1", "readinessProbe", "tcpSocket", "host"),),
    "privileged0": (
        main(ON, *OWN, "privileged"),
        drop("spec", "containers", 0, "securityContext", "allowPrivilegeEscalation"),
    ),
    "privileged1": (
        init(ON, *OWN, "privileged"),
        drop("spec", "initContainers", 0, "securityContext", "allowPrivilegeEscalation"),
    ),
    "procmount0": (main("Unmasked", *OWN, "procMount"), pod(OFF, "hostUsers")),
    "procmount1": (init("Unmasked", *OWN, "procMount"), pod(OFF, "hostUsers")),
    "procmount_baseline0": (main("Unmasked", *OWN, "procMount"), pod(ON, "hostUsers")),
    "procmount_baseline1": (init("Unmasked", *OWN, "procMount"), pod(ON, "hostUsers")),
    "procmount_restricted0": (main("Unmasked", *OWN, "procMount"), pod(OFF, "hostUsers")),
    "procmount_restricted1": (init("Unmasked", *OWN, "procMount"), pod(OFF, "hostUsers")),
    **{f"restrictedvolumes{number}": (volume(kind),) for number, kind in enumerate(VOLUMES)},
    "runasnonroot0": (drop("spec", "securityContext", "runAsNonRoot"),),
    "runasnonroot1": (pod(OFF, *OWN, "runAsNonRoot"),),
    "runasnonroot2": (main(OFF, *OWN, "runAsNonRoot"),),
    "runasnonroot3": (init(OFF, *OWN, "runAsNonRoot"),),
    "runasuser0": (pod(0, *OWN, "runAsUser"),),
    "runasuser1": (main(0, *OWN, "runAsUser"),),
    "runasuser2": (init(0, *OWN, "runAsUser"),),
    "seccompprofile_baseline0": (pod(seccomp("Unconfined"), *PROFILE),),
    "seccompprofile_baseline1": (main(seccomp("Unconfined"), *PROFILE),),
    "seccompprofile_baseline2": (init(seccomp("Unconfined"), *PROFILE),),
    "seccompprofile_restricted0": (NO_PROFILE,),
    "seccompprofile_restricted1": (pod(seccomp("Unconfined"), *PROFILE),),
    "seccompprofile_restricted2": (NO_PROFILE, main(seccomp("RuntimeDefault"), *PROFILE)),
    "seccompprofile_restricted3": (NO_PROFILE, init(seccomp("RuntimeDefault"), *PROFILE)),
    "seccompprofile_restricted4": (
        NO_PROFILE,
        main(seccomp("RuntimeDefault"), *PROFILE),
        init(seccomp("Unconfined"), *PROFILE),
    ),
    "selinuxoptions0": (pod("somevalue", *OWN, "seLinuxOptions", "type"),),
    "selinuxoptions1": (main("somevalue", *OWN, "seLinuxOptions", "type"),),
    "selinuxoptions2": (init("somevalue", *OWN, "seLinuxOptions", "type"),),
    "selinuxoptions3": (pod("somevalue", *OWN, "seLinuxOptions", "user"),),
    "selinuxoptions4": (pod("somevalue", *OWN, "seLinuxOptions", "role"),),
    "sysctls0": (sysctls("othersysctl"),),
    "ulimits0": (main([{"name": "nofile", "soft": 1024, "hard": 2048}], *OWN, "ulimits"),),
    "ulimits1": (init([{"name": "core", "soft": 1, "hard": 1}], *OWN, "ulimits"),),
    "windowshostprocess0": (
        pod(ON, "hostNetwork"),
        pod(ON, *OWN, "windowsOptions", "hostProcess"),
    ),
    "windowshostprocess1": (
        pod(ON, "hostNetwork"),
        main(ON, *OWN, "windowsOptions", "hostProcess"),
        init(ON, *OWN, "windowsOptions", "hostProcess"),
    ),
}
"""What Kubernetes refuses."""

NOT_FOLLOWED = {
    "pass/base_windows": "a Pod for Windows needs no Linux controls; agents are for Linux, and one that "
    "says it is for Windows would go unconfined on a node that does not mind",
    "pass/procmount_baseline1": "1.35 alone: an unmasked /proc in a user namespace; "
    "fail/procmount_restricted0 of the same release refuses that very Pod",
    "pass/procmount1": "1.35 alone: the same Pod under the name before",
    "pass/hostprobesandhostlifecycle1": "1.34 before its release: probes of 127.0.0.1; since then they are "
    "fail/hostprobesandhostlifecycle3",
    "pass/hostprobesandhostlifecycle2": "1.34 before its release: probes of ::1; since then they are "
    "fail/hostprobesandhostlifecycle4",
    "pass/*, v1.0 to v1.21": "older releases admit Pods that drop no capabilities, or name no seccomp "
    "profile; ours is the newest standard",
}
"""Fixtures that we judge otherwise, or in a newer form alone, and why."""


def build(changes: tuple[Change, ...]) -> Pod:
    """Return the least Pod with changes."""
    built = minimal_pod()
    for change in changes:
        change(built)
    return built


def violations(built: Pod) -> list[str]:
    """Return the names of the checks that a Pod breaks."""
    return [one.check for one in find_violations(built["metadata"]["annotations"], built["spec"])]


@pytest.mark.parametrize("name", PASS)
def test_what_kubernetes_admits_is_admitted(name: str) -> None:
    """A checker that cries wolf is switched off."""
    assert violations(build(PASS[name])) == []


@pytest.mark.parametrize("name", FAIL)
def test_what_kubernetes_refuses_is_refused(name: str) -> None:
    """Whoever is told that a manifest holds must not hear otherwise from the cluster."""
    assert violations(build(FAIL[name])) != []


@pytest.mark.parametrize("name", FAIL)
def test_a_refusal_names_the_check_of_the_fixture(name: str) -> None:
    """The name is what an operator searches for."""
    check = name.rstrip("0123456789").split("_")[0].replace("baselinevolumes", "restrictedvolumes")

    found = {one.lower() for one in violations(build(FAIL[name]))}
    assert check in found or (name == "restrictedvolumes19" and "hostpathvolumes" in found)


def test_what_is_not_followed_has_a_reason() -> None:
    """The list is for readers; nobody may add to it silently."""
    assert len(NOT_FOLLOWED) == 6
    assert all(len(reason) > 20 for reason in NOT_FOLLOWED.values())


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ((pod("Unconfined", *OWN, "appArmorProfile", "type"),), "appArmorProfile"),
        ((main("Unconfined", *OWN, "appArmorProfile", "type"),), "appArmorProfile"),
        ((put("unconfined", "metadata", "annotations", f"{SECCOMP}main"),), "seccompProfile"),
        (
            (main("8.8.8.8", "lifecycle", "preStop", "tcpSocket", "host"),),
            "hostProbesAndHostLifecycle",
        ),
        ((pod([{"name": "debug"}], "ephemeralContainers"),), "allowPrivilegeEscalation"),
        ((main("ALL", *CAPABILITIES, "add"),), "capabilities"),
        ((main("ALL", *CAPABILITIES, "drop"),), "capabilities"),
        ((pod("0", *OWN, "runAsUser"),), "runAsUser"),
        ((pod([], "hostPID"),), "hostNamespaces"),
        ((main({"a": 1}, *OWN, "procMount"),), "procMount"),
    ],
)
def test_fields_that_no_fixture_has_are_judged_too(changes: tuple[Change, ...], check: str) -> None:
    """The standard is what is written, not what happens to be tested; shapes may be anything."""
    assert check in violations(build(changes))


@pytest.mark.parametrize(
    "spec", [None, [], "text", {"containers": "x", "volumes": {}}, {"containers": [None]}]
)
def test_a_pod_of_any_shape_is_judged_without_falling_over(spec: object) -> None:
    """A manifest may hold anything; a traceback would be no verdict."""
    assert isinstance(find_violations([], spec), tuple)


def test_selinux_types_of_newer_releases_are_admitted() -> None:
    """container_engine_t came with 1.31, without a fixture of its own."""
    assert violations(build((pod("container_engine_t", *OWN, "seLinuxOptions", "type"),))) == []

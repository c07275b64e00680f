"""What is exported loosens nothing, and whoever loosens one thing of it is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.check import CHECKS, check
from kagent_sdk.deploy.rendering import TARGETS
from kagent_sdk.errors import DeployError
from tests.unit.deploy.lockdown.manifests import GOOD, OPEN, PROXIED, beside, deployment

Beside = Callable[[str], str | None]
Change = Callable[[str, Deployment], str]
Service = dict[str, Any]


def exported(target: str, wanted: Deployment) -> tuple[str, Beside]:
    """Return what is exported, and the files beside it."""
    rendering = TARGETS[target].load().render(wanted)
    return rendering.files[rendering.main], rendering.files.get


@cache
def manifests(target: str) -> tuple[tuple[str, Beside], ...]:
    """Return the manifest by hand and the exported one."""
    return (GOOD[target], beside), exported(target, deployment(PROXIED))


def controls(target: str, text: str, wanted: Deployment, near: Beside) -> set[str]:
    """Return the controls that a manifest loosens."""
    return {loosening.control for loosening in check(target, text, wanted, near)}


SETTINGS: list[dict[str, Any]] = [{}, {"publish": "127.0.0.1:8081"}, {"storage": "ephemeral"}]
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"name": "digest"},
    "proxied": PROXIED,
    "open": OPEN,
    "small": {
        **PROXIED,
        "sandbox": {
            **PROXIED["sandbox"],
            "limits": {"memory_bytes": 134217728, "processes": 16, "open_files": 256, "cpu": 0.5},
            "write": ["data"],
        },
    },
    "unlimited": {"sandbox": {"limits": {"memory_bytes": None, "processes": None, "cpu": None}}},
    "gpu": {"limits": {"gpus": 2}},
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("target", CHECKS)
def test_what_is_exported_loosens_nothing(target: str, config: str) -> None:
    """A checker that finds fault with our own manifests is not believed about others."""
    for settings in SETTINGS:
        wanted = deployment(CONFIGS[config], **settings)
        try:
            text, near = exported(target, wanted)
        except DeployError:
            assert "publish" in settings  # a port of a network that leads nowhere
            continue

        assert check(target, text, wanted, near) == ()


@pytest.mark.parametrize("target", GOOD)
def test_a_manifest_by_hand_that_holds_the_policy_loosens_nothing(target: str) -> None:
    """Whoever does it right in their own words is left alone."""
    assert check(target, GOOD[target], deployment(PROXIED), beside) == ()


def in_compose(change: Callable[[Service], object]) -> Change:
    """Return a change of the agent's service."""

    def apply(text: str, wanted: Deployment) -> str:
        document = yaml.safe_load(text)
        change(document["services"][wanted.name])
        return yaml.safe_dump(document, sort_keys=False)

    return apply


def in_networks(text: str, _wanted: Deployment) -> str:
    """Give the networks a way out."""
    document = yaml.safe_load(text)
    for network in document["networks"].values():
        network.pop("internal", None)
    return yaml.safe_dump(document, sort_keys=False)


def sets(key: str, value: Any) -> Change:
    """Return a change that sets a key of the service."""
    return in_compose(lambda service: service.update({key: value}))


def takes(*keys: str) -> Change:
    """Return a change that takes keys of the service away."""
    return in_compose(lambda service: [service.pop(key, None) for key in keys])


def adds(key: str, value: Any) -> Change:
    """Return a change that adds to what may be a list or a mapping."""

    def change(service: Service) -> None:
        held = service.get(key) or []
        if isinstance(held, dict):
            held = [f"{name}={content}" for name, content in held.items()]
        service[key] = [*held, value]

    return in_compose(change)


def without_seccomp(service: Service) -> None:
    """Leave the syscalls to the engine."""
    service["security_opt"] = [one for one in service["security_opt"] if "seccomp" not in one]


def with_writable_vault(service: Service) -> None:
    """Let the agent write its vault."""
    service["volumes"] = [
        {**one, "read_only": False} if isinstance(one, dict) else re.sub(r":ro\b", ":rw", one)
        for one in service["volumes"]
    ]


COMPOSE: dict[str, tuple[Change, str]] = {
    "root": (sets("user", "0:0"), "user"),
    "no user": (takes("user"), "user"),
    "another user": (sets("user", "1001:1000"), "user"),
    "root's group": (adds("group_add", "0"), "user"),
    "writable root": (sets("read_only", value=False), "read_only_root"),
    "perhaps writable root": (sets("read_only", "${READ_ONLY:-true}"), "read_only_root"),
    "root unsaid": (takes("read_only"), "read_only_root"),
    "capabilities kept": (takes("cap_drop"), "capabilities"),
    "some dropped": (sets("cap_drop", ["NET_RAW"]), "capabilities"),
    "one added": (sets("cap_add", ["SYS_ADMIN"]), "capabilities"),
    "privileged": (sets("privileged", value=True), "privileged"),
    "perhaps privileged": (sets("privileged", "${PRIVILEGED}"), "privileged"),
    "new privileges": (sets("security_opt", ["seccomp=seccomp.json"]), "no_new_privileges"),
    "engine's seccomp": (in_compose(without_seccomp), "syscalls"),
    "no seccomp": (adds("security_opt", "seccomp:unconfined"), "syscalls"),
    "no apparmor": (adds("security_opt", "apparmor=unconfined"), "protections"),
    "no selinux": (adds("security_opt", "label:disable"), "protections"),
    "unmasked": (adds("security_opt", "systempaths=unconfined"), "protections"),
    "unheard-of option": (adds("security_opt", "magic=on"), "not_understood"),
    "memory": (takes("mem_limit", "deploy"), "cgroup"),
    "more memory": (sets("mem_limit", "4g"), "cgroup"),
    "memory of a variable": (sets("mem_limit", "${MEMORY}"), "not_understood"),
    "swap": (takes("memswap_limit"), "cgroup"),
    "endless swap": (sets("memswap_limit", -1), "cgroup"),
    "cores": (takes("cpus", "deploy", "cpu_quota"), "cgroup"),
    "more cores": (sets("cpus", "8"), "cgroup"),
    "quota": (sets("cpu_quota", 900_000), "cgroup"),
    "processes": (takes("pids_limit", "deploy"), "cgroup"),
    "endless processes": (sets("pids_limit", -1), "cgroup"),
    "core dumps": (sets("ulimits", {"nofile": 1024}), "no_core_dumps"),
    "open files": (sets("ulimits", {"core": 0, "nofile": {"soft": 9, "hard": 1_000_000}}), "limits"),
    "host network": (in_compose(lambda one: (one.pop("networks", 0), one.update(network_mode="host"))), "egress"),
    "default network": (takes("networks", "network_mode"), "egress"),
    "bridge": (in_compose(lambda one: (one.pop("networks", 0), one.update(network_mode="bridge"))), "egress"),
    "another's network": (in_compose(lambda one: (one.pop("networks", 0), one.update(network_mode="container:x"))), "namespaces"),
    "network that leads out": (in_networks, "egress"),
    "host's processes": (sets("pid", "host"), "namespaces"),
    "host's ipc": (sets("ipc", "host"), "namespaces"),
    "host's uts": (sets("uts", "host"), "namespaces"),
    "host's users": (sets("userns_mode", "host"), "namespaces"),
    "host's cgroups": (sets("cgroup", "host"), "namespaces"),
    "device": (adds("devices", "/dev/kvm:/dev/kvm"), "devices"),
    "gpu": (sets("gpus", "all"), "devices"),
    "sysctl": (sets("sysctls", {"kernel.msgmax": "1"}), "sysctls"),
    "engine's socket": (adds("volumes", "/var/run/docker.sock:/run/docker.sock"), "files"),
    "machine's files": (adds("volumes", {"type": "bind", "source": "/", "target": "/host", "read_only": True}), "files"),
    "own code": (adds("volumes", "./code:/agent/code"), "files"),
    "more scratch": (adds("tmpfs", "/scratch"), "files"),
    "other config": (adds("volumes", "./config.yaml:/agent/config.yaml:ro"), "files"),
    "writable vault": (in_compose(with_writable_vault), "vault"),
    "published": (sets("ports", ["8080:8080"]), "ports"),
    "published at length": (sets("ports", [{"target": 8080, "published": "9"}]), "ports"),
    "sandbox off": (adds("environment", "AGENT_SANDBOX__MODE=off"), "environment"),
    "no tokens": (adds("environment", "AGENT_HTTP__AUTH=none"), "environment"),
    "stays root": (adds("environment", "AGENT_WORKER__USER=keep"), "environment"),
    "network open": (adds("environment", "AGENT_SANDBOX__NETWORK__EXTERNAL=true"), "environment"),
    "more allowed": (adds("environment", "AGENT_SANDBOX__NETWORK__ALLOW"), "environment"),
    "preloaded": (adds("environment", "LD_PRELOAD=/x.so"), "environment"),
    "variables of a file": (sets("env_file", ".env"), "not_understood"),
    "short stop": (sets("stop_grace_period", "1s"), "stop_timeout"),
    "engine's stop": (takes("stop_grace_period"), "stop_timeout"),
    "no health": (sets("healthcheck", {"disable": True}), "health"),
    "no test": (sets("healthcheck", {"test": ["NONE"]}), "health"),
    "latest": (sets("image", "digest:latest"), "image"),
    "other program": (sets("entrypoint", "sh -c 'python x.py'"), "entrypoint"),
    "extended": (sets("extends", {"service": "x"}), "not_understood"),
    "unheard-of key": (sets("use_api_socket", value=True), "not_understood"),
    "hook": (sets("post_start", [{"command": "x", "user": "root"}]), "not_understood"),
    "kill": (sets("stop_signal", "SIGKILL"), "not_understood"),
}  # fmt: skip


def in_pod(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return a change of the agent's Pod: its spec."""

    def apply(text: str, wanted: Deployment) -> str:
        documents = [one for one in yaml.safe_load_all(text) if one]
        for document in documents:
            if document["metadata"]["name"] == wanted.name and "template" in document.get(
                "spec", {}
            ):
                change(document["spec"]["template"]["spec"])
        return yaml.safe_dump_all(documents)

    return apply


def in_container(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return a change of the agent's container."""
    return in_pod(lambda spec: change(spec["containers"][0]))


def context(**values: Any) -> Change:
    """Return a change of the container's security context."""
    return in_container(lambda one: one["securityContext"].update(values))


def without(field: str) -> Change:
    """Return a change that takes a field of the security context away."""
    return in_container(lambda one: one["securityContext"].pop(field))


def without_policies(text: str, _wanted: Deployment) -> str:
    """Take the NetworkPolicies away."""
    documents = [one for one in yaml.safe_load_all(text) if one]
    return yaml.safe_dump_all(one for one in documents if one["kind"] != "NetworkPolicy")


def with_open_policies(text: str, _wanted: Deployment) -> str:
    """Let NetworkPolicies lead everywhere."""
    documents = [one for one in yaml.safe_load_all(text) if one]
    for one in documents:
        if one["kind"] == "NetworkPolicy":
            one["spec"]["egress"] = [{}]
    return yaml.safe_dump_all(documents)


def with_node_ports(text: str, _wanted: Deployment) -> str:
    """Show the Services to the world."""
    documents = [one for one in yaml.safe_load_all(text) if one]
    for one in documents:
        if one["kind"] == "Service":
            one["spec"]["type"] = "NodePort"
    return yaml.safe_dump_all(documents)


def with_code(one: dict[str, Any]) -> dict[str, Any]:
    """Mount a volume over the code."""
    one["volumeMounts"].append({"name": "code", "mountPath": "/agent/code"})
    return one


def with_volume(**volume: Any) -> Change:
    """Return a change that mounts a volume over the code."""

    def change(spec: dict[str, Any]) -> None:
        spec["volumes"].append({"name": "code", **volume})
        with_code(spec["containers"][0])

    return in_pod(change)


KUBERNETES: dict[str, tuple[Change, str]] = {
    "root": (context(runAsUser=0), "user"),
    "another group": (context(runAsGroup=0), "user"),
    "may be root": (context(runAsNonRoot=False), "runAsNonRoot"),
    "no user": (in_pod(lambda spec: spec["securityContext"].pop("runAsUser")), "user"),
    "root's files": (in_pod(lambda spec: spec["securityContext"].update(fsGroup=0)), "user"),
    "writable root": (context(readOnlyRootFilesystem=False), "read_only_root"),
    "root unsaid": (without("readOnlyRootFilesystem"), "read_only_root"),
    "capabilities kept": (without("capabilities"), "capabilities"),
    "small letters": (context(capabilities={"drop": ["all"]}), "capabilities"),
    "one added": (context(capabilities={"drop": ["ALL"], "add": ["SYS_TIME"]}), "capabilities"),
    "even that one": (context(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}), "capabilities"),
    "privileged": (context(privileged=True), "privileged"),
    "new privileges": (without("allowPrivilegeEscalation"), "no_new_privileges"),
    "no seccomp": (context(seccompProfile={"type": "Unconfined"}), "syscalls"),
    "seccomp unsaid": (in_pod(lambda spec: spec["securityContext"].pop("seccompProfile")), "syscalls"),
    "no apparmor": (context(appArmorProfile={"type": "Unconfined"}), "appArmorProfile"),
    "selinux": (context(seLinuxOptions={"type": "spc_t"}), "seLinuxOptions"),
    "unmasked": (context(procMount="Unmasked"), "procMount"),
    "unheard-of field": (context(magic=True), "not_understood"),
    "unheard-of word": (in_pod(lambda spec: spec.update(magic=True)), "not_understood"),
    "memory": (in_container(lambda one: one["resources"]["limits"].pop("memory")), "cgroup"),
    "more memory": (in_container(lambda one: one["resources"]["limits"].update(memory="8Gi")), "cgroup"),
    "memory unread": (in_container(lambda one: one["resources"]["limits"].update(memory="x")), "not_understood"),
    "cores": (in_container(lambda one: one["resources"]["limits"].pop("cpu")), "cgroup"),
    "more cores": (in_container(lambda one: one["resources"]["limits"].update(cpu=4)), "cgroup"),
    "device": (in_container(lambda one: one["resources"]["limits"].update({"devices.kubevirt.io/kvm": "1"})), "devices"),
    "gpu": (in_container(lambda one: one["resources"]["limits"].update({"nvidia.com/gpu": 1})), "devices"),
    "host network": (in_pod(lambda spec: spec.update(hostNetwork=True)), "egress"),
    "host's processes": (in_pod(lambda spec: spec.update(hostPID=True)), "namespaces"),
    "host's ipc": (in_pod(lambda spec: spec.update(hostIPC=True)), "namespaces"),
    "shared processes": (in_pod(lambda spec: spec.update(shareProcessNamespace=True)), "namespaces"),
    "no policies": (without_policies, "egress"),
    "open policies": (with_open_policies, "egress"),
    "node ports": (with_node_ports, "exposure"),
    "token": (in_pod(lambda spec: spec.pop("automountServiceAccountToken")), "exposure"),
    "host port": (in_container(lambda one: one.update(ports=[{"containerPort": 1, "hostPort": 1}])), "hostPorts"),
    "sysctl": (in_pod(lambda spec: spec["securityContext"].update(sysctls=[{"name": "kernel.x", "value": "1"}])), "sysctls"),
    "node's files": (in_pod(lambda spec: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}})), "hostPathVolumes"),
    "node's files in use": (with_volume(hostPath={"path": "/x"}), "files"),
    "volume of nowhere": (in_container(with_code), "not_understood"),
    "more scratch": (with_volume(emptyDir={}), "files"),
    "sandbox off": (in_container(lambda one: one.setdefault("env", []).append({"name": "AGENT_SANDBOX__MODE", "value": "off"})), "environment"),
    "from a secret": (in_container(lambda one: one.setdefault("env", []).append({"name": "AGENT_HTTP__AUTH", "valueFrom": {}})), "environment"),
    "variables from elsewhere": (in_container(lambda one: one.update(envFrom=[{"configMapRef": {"name": "x"}}])), "not_understood"),
    "short stop": (in_pod(lambda spec: spec.update(terminationGracePeriodSeconds=1)), "stop_timeout"),
    "no liveness": (in_container(lambda one: one.pop("livenessProbe")), "health"),
    "no readiness": (in_container(lambda one: one.pop("readinessProbe")), "health"),
    "latest": (in_container(lambda one: one.update(image="digest")), "image"),
    "other program": (in_container(lambda one: one.update(command=["sh", "-c", "x"])), "entrypoint"),
    "an init container as root": (in_pod(lambda spec: spec.update(initContainers=[{"name": "i", "image": "x:1", "securityContext": {"runAsUser": 0}}])), "read_only_root"),
    "an ephemeral container": (in_pod(lambda spec: spec.update(ephemeralContainers=[{"name": "i", "image": "x:1"}])), "capabilities"),
    "a sidecar with powers": (in_pod(lambda spec: spec["containers"].append({"name": "i", "image": "x:1", "securityContext": {"privileged": True}})), "privileged"),
    "mounts that propagate": (in_container(lambda one: one["volumeMounts"][0].update(mountPropagation="Bidirectional")), "protections"),
}  # fmt: skip


def flag(*words: str) -> Change:
    """Return a change that adds flags to the agent's command."""

    def apply(text: str, _wanted: Deployment) -> str:
        head, mark, tail = text.rpartition('"$image"')
        return f"{head}{' '.join(words)} {mark}{tail}"

    return apply


def unflag(pattern: str) -> Change:
    """Return a change that takes flags away."""
    return lambda text, _wanted: re.sub(rf"{pattern}(?=[ \n])", "", text)


DOCKER_RUN: dict[str, tuple[Change, str]] = {
    "root": (flag("--user=0"), "user"),
    "root in short": (flag("-u", "root"), "user"),
    "no user": (unflag("--user[= ]1000:1000"), "user"),
    "further group": (flag("--group-add", "docker"), "user"),
    "writable root": (unflag("--read-only"), "read_only_root"),
    "read-only, no": (flag("--read-only=false"), "read_only_root"),
    "podman's scratch": (unflag("--read-only-tmpfs=false"), "read_only_root"),
    "capabilities kept": (unflag("--cap-drop=ALL"), "capabilities"),
    "one added": (flag("--cap-add", "cap_net_admin,SYS_TIME"), "capabilities"),
    "privileged": (flag("--privileged"), "privileged"),
    "new privileges": (unflag("--security-opt=no-new-privileges"), "no_new_privileges"),
    "new privileges, yes": (flag("--security-opt", "no-new-privileges:false"), "no_new_privileges"),
    "engine's seccomp": (unflag(r"--security-opt=seccomp=\S*"), "syscalls"),
    "no seccomp": (flag("--security-opt=seccomp=unconfined"), "syscalls"),
    "unmasked": (flag("--security-opt=unmask=ALL"), "protections"),
    "memory": (unflag(r"--memory=\w+"), "cgroup"),
    "more memory": (flag("-m", "4g"), "cgroup"),
    "swap": (flag("--memory-swap=-1"), "cgroup"),
    "cores": (unflag("--cpus=1"), "cgroup"),
    "quota": (flag("--cpu-quota=-1"), "cgroup"),
    "processes": (flag("--pids-limit", "0"), "cgroup"),
    "core dumps": (flag("--ulimit=core=-1"), "no_core_dumps"),
    "open files": (flag("--ulimit", "nofile=1024:65536"), "limits"),
    "host network": (flag("--net=host"), "egress"),
    "a network that leads out": (flag("--network", "digest-outside"), "egress"),
    "a network unseen": (flag("--network=elsewhere"), "egress"),
    "another's network": (flag("--network=container:x"), "namespaces"),
    "host's processes": (flag("--pid=host"), "namespaces"),
    "device": (flag("--device=/dev/fuse"), "devices"),
    "gpu": (flag("--gpus", "all"), "devices"),
    "sysctl": (flag("--sysctl=kernel.msgmax=1"), "sysctls"),
    "engine's socket": (flag("-v/run/podman/podman.sock:/run/podman.sock"), "files"),
    "mounted": (flag("--mount=type=bind,src=/srv,dst=/srv"), "files"),
    "mounted oddly": (flag("--mount=type=image,src=x,dst=/srv"), "not_understood"),
    "more scratch": (flag("--tmpfs=/scratch"), "files"),
    "executable": (flag("-v", "x:/agent/runtime:rw,exec,nosuid,nodev"), "files"),
    "executable unsaid": (flag("-v", "x:/agent/runtime"), "files"),
    "writable vault": (flag("-v", "./secrets:/agent/secrets:rw"), "vault"),
    "published": (flag("-p8080:8080"), "ports"),
    "all published": (flag("-dP"), "ports"),
    "sandbox off": (flag("-e", "AGENT_SANDBOX__MODE=off"), "environment"),
    "from the shell": (flag("--env=AGENT_HTTP__AUTH"), "environment"),
    "variables of a file": (flag("--env-file=x"), "not_understood"),
    "short stop": (flag("--stop-timeout=1"), "stop_timeout"),
    "no health": (flag("--no-healthcheck"), "health"),
    "other program": (flag("--entrypoint=sh"), "entrypoint"),
    "unheard-of flag": (flag("--magic"), "not_understood"),
    "unheard-of flag with a value": (flag("--magic", "word"), "not_understood"),
    "flags of a variable": (flag("$FLAGS"), "not_understood"),
    "kill": (flag("--stop-signal=KILL"), "not_understood"),
}


def line(text: str) -> Change:
    """Return a change that adds a line to the container."""

    def apply(unit: str, _wanted: Deployment) -> str:
        return unit.replace("[Container]\n", f"[Container]\n{text}\n", 1)

    return apply


def last(text: str) -> Change:
    """Return a change that adds a line behind all others of the container."""
    return lambda unit, _wanted: f"{unit}\n[Container]\n{text}\n"


def unline(pattern: str) -> Change:
    """Return a change that takes lines away."""
    return lambda unit, _wanted: re.sub(rf"^{pattern}.*\n", "", unit, flags=re.MULTILINE)


QUADLET: dict[str, tuple[Change, str]] = {
    "root": (last("User=0"), "user"),
    "no user": (unline("User="), "user"),
    "no group": (last("Group=0"), "user"),
    "writable root": (unline("ReadOnly="), "read_only_root"),
    "root taken back": (last("ReadOnly="), "read_only_root"),
    "podman's scratch": (
        lambda unit, _: re.sub("(ReadOnlyTmpfs|PodmanArgs=--read-only-tmpfs)=false.*", "", unit),
        "read_only_root",
    ),
    "capabilities kept": (unline("DropCapability="), "capabilities"),
    "one added": (line("AddCapability=CAP_NET_RAW"), "capabilities"),
    "new privileges": (unline("NoNewPrivileges="), "no_new_privileges"),
    "engine's seccomp": (unline("SeccompProfile="), "syscalls"),
    "no seccomp": (last("SeccompProfile=unconfined"), "syscalls"),
    "no selinux": (line("SecurityLabelDisable=true"), "protections"),
    "spc": (line("SecurityLabelType=spc_t"), "protections"),
    "no apparmor": (line("AppArmor=unconfined"), "protections"),
    "unmasked": (line("Unmask=ALL"), "protections"),
    "privileged": (line("PodmanArgs=--privileged"), "privileged"),
    "memory": (last("PodmanArgs=--memory=8g"), "cgroup"),
    "processes": (last("PidsLimit=-1"), "cgroup"),
    "core dumps": (last("Ulimit=core=unlimited"), "no_core_dumps"),
    "host network": (line("Network=host"), "egress"),
    "default network": (unline("Network="), "egress"),
    "a network unseen": (line("Network=other.network"), "egress"),
    "device": (line("AddDevice=/dev/kvm"), "devices"),
    "sysctl": (line("Sysctl=kernel.msgmax=1"), "sysctls"),
    "machine's files": (line("Volume=/etc:/etc:ro"), "files"),
    "published": (line("PublishPort=8080:8080"), "ports"),
    "sandbox off": (line('Environment="AGENT_SANDBOX__MODE=off" A=b'), "environment"),
    "variables of a file": (line("EnvironmentFile=x"), "not_understood"),
    "short stop": (last("StopTimeout=1"), "stop_timeout"),
    "no health": (line("HealthCmd=none"), "health"),
    "other program": (line("Entrypoint=sh"), "entrypoint"),
    "unheard-of key": (line("Rootfs=/"), "not_understood"),
    "in a pod": (line("Pod=x.pod"), "not_understood"),
    "stray words": (line("PodmanArgs=--init word"), "not_understood"),
    "unheard-of section": (lambda unit, _: unit + "\n[Kube]\nYaml=x\n", "not_understood"),
}

CHANGES = {
    "compose": COMPOSE,
    "docker-run": DOCKER_RUN,
    "kubernetes": KUBERNETES,
    "quadlet": QUADLET,
}


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target, changes in CHANGES.items() for name in changes]
)
def test_each_single_loosening_is_found(target: str, name: str) -> None:
    """One forgotten line of forty is what happens; it must not be lost among the right ones."""
    change, control = CHANGES[target][name]
    wanted = deployment(PROXIED)
    for text, near in manifests(target):
        loosened = change(text, wanted)

        assert control in controls(target, loosened, wanted, near)

"""How each kind of manifest spells what the policy wants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kagent_sdk.sandbox.policy import AGENT_ID, MEBIBYTE

_USER = f"{AGENT_ID}:{AGENT_ID}"

SPELLINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "compose": {
            "user": f'user: "{_USER}"',
            "seccomp": "security_opt: [seccomp=./seccomp.json], of kos-agent export seccomp",
            "read_only": "read_only: true",
            "no_new_privileges": "security_opt: [no-new-privileges]",
            "cap_drop": "cap_drop: [ALL]",
            "memory": "mem_limit: {}",
            "swap": "memswap_limit: {}, as much as mem_limit",
            "cpus": "cpus: {}",
            "pids": "pids_limit: {}",
            "core": "ulimits: {{core: 0}}",
            "nofile": "ulimits: {{nofile: {}}}",
            "stop": "stop_grace_period: {}s",
            "network": "networks with internal: true alone; what is allowed goes by the egress proxy",
        },
        "docker-run": {
            "user": f"--user={_USER}",
            "seccomp": "--security-opt=seccomp=seccomp.json, of kos-agent export seccomp",
            "read_only": "--read-only",
            "scratch": "--read-only-tmpfs=false",
            "no_new_privileges": "--security-opt=no-new-privileges",
            "cap_drop": "--cap-drop=ALL",
            "memory": "--memory={}",
            "swap": "--memory-swap={}, as much as --memory",
            "cpus": "--cpus={}",
            "pids": "--pids-limit={}",
            "core": "--ulimit=core=0:0",
            "nofile": "--ulimit=nofile={0}:{0}",
            "stop": "--stop-timeout={}",
            "network": "--network=none, or a network made with --internal in this script",
        },
        "kubernetes": {
            "user": f"runAsUser: {AGENT_ID} and runAsGroup: {AGENT_ID}",
            "seccomp": "seccompProfile: {{type: RuntimeDefault}}",
            "read_only": "readOnlyRootFilesystem: true",
            "no_new_privileges": "allowPrivilegeEscalation: false",
            "cap_drop": "capabilities: {{drop: [ALL]}}",
            "memory": "resources.limits.memory: {}",
            "cpus": "resources.limits.cpu: {}",
            "stop": "terminationGracePeriodSeconds: {}",
            "network": "a NetworkPolicy for Egress to Pods of the mesh, the egress proxy and DNS alone",
        },
        "quadlet": {
            "user": f"User={AGENT_ID} and Group={AGENT_ID}",
            "seccomp": "SeccompProfile=seccomp.json, of kos-agent export seccomp",
            "read_only": "ReadOnly=true",
            "scratch": "ReadOnlyTmpfs=false",
            "no_new_privileges": "NoNewPrivileges=true",
            "cap_drop": "DropCapability=all",
            "memory": "PodmanArgs=--memory={}",
            "swap": "PodmanArgs=--memory-swap={}, as much as --memory",
            "cpus": "PodmanArgs=--cpus={}",
            "pids": "PidsLimit={}",
            "core": "Ulimit=core=0:0",
            "nofile": "Ulimit=nofile={0}:{0}",
            "stop": "StopTimeout={}",
            "network": "Network=NAME.network, a unit with Internal=true",
        },
    }
)


def spelling(kind: str, what: str, amount: object = "") -> str:
    """Return how a kind of manifest says something, with an amount where it has one."""
    return SPELLINGS[kind][what].format(amount)


def amount_of(count: int) -> str:
    """Return bytes for people: whole mebibytes where they are."""
    return f"{count} bytes" if count % MEBIBYTE else f"{count // MEBIBYTE} MiB"

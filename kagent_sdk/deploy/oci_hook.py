"""kos-agent export oci-hook: a program that vetoes containers, and what makes engines run it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.sandbox.policy import AGENT_ID
from kagent_sdk.sandbox.seccomp.oci import oci_profile

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

PROGRAM = "kos-agent-hook"
HOOKS = "/etc/containers/oci/hooks.d"
"""Where podman and CRI-O look."""

CONFIGURATION = "kos-agent-hook.json"

SHEBANG = "#!/usr/bin/python3 -I"
"""Isolated: nothing is imported from where it is started, which is the bundle."""

PARTS = ("bundle", "process", "files", "veto")
"""The modules that are one program, each after those that it needs."""

IMPORTS = """\
from __future__ import annotations

import json
import os
import posixpath
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional
"""
"""Of all parts together; Python 3.9 has them."""

EMPTY = '''\
WANTED: dict[str, Any] = {}
"""What the export writes here."""
'''
MEANING = '''\
"""At most, of the agents on this machine; None: it is not looked at."""
'''

TIMEOUT_S = 10
"""It takes about 50 ms; an engine whose hook hangs does not start the container."""

PRIVILEGED_PORTS = 1024

SHM = "/dev/shm"  # noqa: S108 - of each container its own

CONTAINER_OPTIONS = ["nosuid", "nodev", "noexec"]


def render(deployment: Deployment) -> Rendering:
    """Return the program, with what this deployment wants written into it, and its JSON."""
    path = deployment.settings.hook_path
    return Rendering(
        CONFIGURATION,
        {CONFIGURATION: _configuration(path), PROGRAM: program_text(wanted_of(deployment))},
        programs=frozenset({PROGRAM}),
        notes=(
            f"as root: install -D -o root -g root -m 0755 {PROGRAM} {path}",
            f"as root: install -D -o root -g root -m 0644 {CONFIGURATION} {HOOKS}/{CONFIGURATION}",
            "all containers with the annotation io.kos.agent=true are held to this agent's limits",
        ),
    )


def wanted_of(deployment: Deployment) -> dict[str, Any]:
    """Return what the hook holds a container to, as plain data.

    A Pod shares its network and IPC; Kubernetes mounts volumes without options, sets no rlimits, and
    leaves the number of processes to the kubelet.
    """
    limits = deployment.policy.limits
    is_pod = deployment.settings.hook_for == "pods"
    always, sometimes = _syscalls(deployment)
    rlimits = {"RLIMIT_CORE": 0}
    if limits.open_files is not None:
        rlimits["RLIMIT_NOFILE"] = limits.open_files
    return {
        "user": AGENT_ID,
        "capabilities": (["CAP_NET_BIND_SERVICE"] if deployment.port < PRIVILEGED_PORTS else []),
        "memory_bytes": limits.memory_bytes,
        "limits_swap": not is_pod,
        "cpu_cores": limits.cpu_cores,
        "processes": None if is_pod else limits.all_processes,
        "rlimits": {} if is_pod else rlimits,
        "oom_score": None if is_pod else 0,
        "joined_namespaces": ["network", "ipc", "uts"] if is_pod else ["network"],
        "gpus": deployment.gpus,
        "volumes": [*(volume.target for volume in deployment.volumes), SHM],
        "mount_options": [] if is_pod else CONTAINER_OPTIONS,
        "writable_files": ["/dev/termination-log", "/etc/hosts"] if is_pod else [],
        "syscalls": None if is_pod else always,
        "syscalls_if": None if is_pod else sometimes,
    }


def program_text(wanted: dict[str, Any]) -> str:
    """Return the program: one file that needs nothing of this package."""
    folder = Path(__file__).parent / "hook"
    sources = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in PARTS}
    docstring = ast.get_docstring(ast.parse(sources["veto"]), clean=False)
    values = pformat(wanted, indent=1, width=99, compact=True, sort_dicts=False)
    body = "\n\n".join(_body(source).strip("\n") + "\n" for source in sources.values())
    before, empty, after = body.partition(EMPTY)
    assert empty, "the program says no longer where the values go"
    return (
        f'{SHEBANG}\n"""{docstring}"""\n\n{IMPORTS}\n'
        f"WANTED: dict[str, Any] = {values}\n{MEANING}\n{before}{after.lstrip()}"
    )


def _configuration(path: str) -> str:
    """Return the JSON that makes engines run the hook (oci-hooks(5), schema 1.0.0)."""
    configuration = {
        "version": "1.0.0",
        "hook": {"path": path, "timeout": TIMEOUT_S},
        "when": {"annotations": {r"^io\.kos\.agent$": "^true$"}},
        "stages": ["createRuntime"],
    }
    return json.dumps(configuration, indent=2) + "\n"


def _body(source: str) -> str:
    """Return what stands behind the imports of a module."""
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    last = max(
        node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    )
    return "".join(lines[last:])


def _syscalls(deployment: Deployment) -> tuple[list[str], list[str]]:
    """Return the names that the deployment's profile allows: always, and on a condition."""
    always: set[str] = set()
    sometimes: set[str] = set()
    for rule in oci_profile(deployment.policy, with_host=True)["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW":
            (sometimes if rule.get("args") else always).update(rule["names"])
    return sorted(always), sorted(sometimes - always)

"""A policy in the form that a starting process applies: plain values, read without any import.

The classes of `kagent_sdk.sandbox.policy` take 4 ms to make, the sandbox may cost 5 in all: so the
host thinks, and the worker's process is told.
"""

from __future__ import annotations

import marshal

from kagent_sdk.sandbox.policy import Mode, Policy
from kagent_sdk.sandbox.seccomp.bpf import compile_filter
from kagent_sdk.sandbox.seccomp.kernel import running_architecture
from kagent_sdk.sandbox.seccomp.rules import rules_for


def make_plan(policy: Policy) -> dict[str, object]:
    """Return what `kagent_sdk.sandbox.application.apply` takes, filter included."""
    network, limits = policy.network, policy.limits
    return {
        "mode": str(policy.mode),
        "isolation": str(policy.isolation),
        "user": policy.user,
        "read": policy.read,
        "write": policy.write,
        "execute": policy.execute,
        "hidden": policy.hidden,
        "devices": policy.devices,
        "listen": network.listen,
        "connect": None if network.external else network.connect,
        "limits": {
            "cpu_cores": limits.cpu_cores,
            "data_bytes": limits.data_bytes,
            "processes": limits.processes,
            "open_files": limits.open_files,
            "file_bytes": limits.file_bytes,
        },
        "keep_fds": policy.keep_fds,
        "require": policy.require,
        "filter": _make_filter(policy),
    }


def encode_plan(plan: dict[str, object]) -> bytes:
    """Return a plan as bytes, for the same Python and from the host alone: marshal trusts them."""
    return marshal.dumps(plan)


def _make_filter(policy: Policy) -> bytes:
    """Return the seccomp filter for this machine; nothing where there is none or none is wanted."""
    architecture = running_architecture()
    if policy.mode is Mode.OFF or architecture is None:
        return b""
    return compile_filter(rules_for(policy), architecture)

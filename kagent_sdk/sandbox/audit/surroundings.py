"""What holds around a worker, whatever is applied to it: its host's memory, the vault. Pure."""

from __future__ import annotations

from dataclasses import replace

from kagent_sdk.sandbox.audit.table import observe
from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Policy


def check_host_memory(policy: Policy, *, is_dumpable: bool | None) -> Finding:
    """Judge whether the kernel keeps the host's memory from processes of its user.

    Args:
        policy: for what is expected.
        is_dumpable: of the host (PR_GET_DUMPABLE); None where no host runs.
    """
    if is_dumpable is None:
        return replace(
            observe(Control.HOST_MEMORY, policy, Verdict.UNKNOWN, "no host runs", ""),
            severity=Severity.WARNING,
        )
    finding = observe(
        Control.HOST_MEMORY,
        policy,
        Verdict.WEAKER if is_dumpable else Verdict.IN_FORCE,
        "open to processes of its user outside the sandbox" if is_dumpable else "closed",
        "PR_GET_DUMPABLE of the host",
    )
    return replace(finding, severity=Severity.WARNING if is_dumpable else finding.severity)


def check_vault(policy: Policy, *, is_present: bool, writable: str, is_container: bool) -> Finding:
    """Judge whether the host could change the vault.

    Args:
        policy: for what is expected.
        is_present: whether there is a vault.
        writable: why the host could write to it; empty when it could not.
        is_container: whether someone mounts it, who could do so read-only.
    """
    if not is_present:
        return observe(Control.VAULT, policy, Verdict.IN_FORCE, "there is none", "")
    if not writable:
        return observe(Control.VAULT, policy, Verdict.IN_FORCE, "not writable", "access(2)")
    return replace(
        observe(Control.VAULT, policy, Verdict.WEAKER, "the host could write to it", "access(2)"),
        severity=Severity.WARNING if is_container else Severity.INFO,
    )

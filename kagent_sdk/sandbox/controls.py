"""The names of what the sandbox controls, and what is found out about each."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Control(enum.StrEnum):
    """One thing that is enforced; the names that ``sandbox.require`` and the audit use."""

    USER = "user"
    """The process is not root: it has the user that the policy names."""
    DESCRIPTORS = "descriptors"
    """Nothing was inherited but what is meant to be."""
    NO_NEW_PRIVILEGES = "no_new_privileges"
    """Set-user-ID programs give nothing (PR_SET_NO_NEW_PRIVS)."""
    CAPABILITIES = "capabilities"
    """No capability is held, ambient, inheritable or in the bounding set."""
    FILES = "files"
    """Landlock: only the paths of the policy."""
    TCP_PORTS = "tcp_ports"
    """Landlock: only the TCP ports of the policy."""
    SCOPES = "scopes"
    """Landlock: no signals to, and no abstract sockets of, processes outside."""
    SYSCALLS = "syscalls"
    """seccomp: only the syscalls and arguments of the policy."""
    LIMITS = "limits"
    """Memory, processes, files, sizes, cores."""
    NO_CORE_DUMPS = "no_core_dumps"
    """A crash leaves no image of the memory."""
    NAMESPACES = "namespaces"
    """bubblewrap: mounts, processes, network, IPC and host name of its own."""
    CGROUP = "cgroup"
    """Memory, cores and processes, counted by the kernel for all processes together."""
    EGRESS = "egress"
    """There is no way out but the proxy."""
    HOST_MEMORY = "host_memory"
    """The host cannot be read or traced by processes of its user."""
    READ_ONLY_ROOT = "read_only_root"
    """The root of the file system is mounted read-only."""
    VAULT = "vault"
    """The vault is not readable for the worker and not writable for the host."""


class Severity(enum.StrEnum):
    """How bad it is when a control is not in force."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Verdict(enum.StrEnum):
    """What was found out about a control."""

    IN_FORCE = "in_force"
    WEAKER = "weaker"
    """In force in part; the actual value says which part is missing."""
    MISSING = "missing"
    NOT_ASKED_FOR = "not_asked_for"
    """The policy does not want it."""
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one control.

    Attributes:
        control: which.
        verdict: whether it holds.
        expected, actual: in a few words, for people; no secret, and of paths only the policy's.
        evidence: where that was seen: ``/proc/self/status NoNewPrivs``, ``canary: open(2)``.
        severity: how bad it is when it does not hold.
        way_out: how to get it; empty when it holds.
    """

    control: Control
    verdict: Verdict
    expected: str
    actual: str
    evidence: str
    severity: Severity
    way_out: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing has to be done."""
        return self.verdict in {Verdict.IN_FORCE, Verdict.NOT_ASKED_FOR}

"""One finding for each control, from all that was found out about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kagent_sdk.sandbox.controls import Control, Finding, Severity, Verdict
from kagent_sdk.sandbox.policy import Isolation, Mode, Policy

_WORST_FIRST = (
    Verdict.MISSING,
    Verdict.WEAKER,
    Verdict.IN_FORCE,
    Verdict.NOT_ASKED_FOR,
    Verdict.UNKNOWN,
)

NOT_LOOKED_AT = "not looked at"
"""What is said of a control that there is no finding of; a later look takes its place."""

SEVERITIES: dict[Control, Severity] = {
    Control.USER: Severity.CRITICAL,
    Control.DESCRIPTORS: Severity.CRITICAL,
    Control.NO_NEW_PRIVILEGES: Severity.CRITICAL,
    Control.CAPABILITIES: Severity.CRITICAL,
    Control.FILES: Severity.CRITICAL,
    Control.TCP_PORTS: Severity.CRITICAL,
    Control.SCOPES: Severity.CRITICAL,
    Control.SYSCALLS: Severity.CRITICAL,
    Control.LIMITS: Severity.WARNING,
    Control.NO_CORE_DUMPS: Severity.WARNING,
    Control.NAMESPACES: Severity.CRITICAL,
    Control.CGROUP: Severity.WARNING,
    Control.EGRESS: Severity.CRITICAL,
    Control.HOST_MEMORY: Severity.CRITICAL,
    Control.READ_ONLY_ROOT: Severity.WARNING,
    Control.VAULT: Severity.CRITICAL,
}
"""How bad it is when a control is missing altogether; a finding of a part may say less."""

WAYS_OUT: dict[Control, str] = {
    Control.USER: "start as another user than root, or set worker.user: agent",
    Control.DESCRIPTORS: "close what the process should not have, or mark it close-on-exec",
    Control.NO_NEW_PRIVILEGES: "run on Linux 3.5 or newer",
    Control.CAPABILITIES: "start as another user than root, or with all capabilities dropped",
    Control.FILES: "run on Linux 6.7 or newer with Landlock (CONFIG_SECURITY_LANDLOCK, lsm=landlock,…)",
    Control.TCP_PORTS: "run on Linux 6.7 or newer (Landlock ABI 4)",
    Control.SCOPES: "run on Linux 6.12 or newer (Landlock ABI 6), or set worker.isolation: bwrap",
    Control.SYSCALLS: "run on a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
    Control.LIMITS: "let the limits be lowered: start with hard limits that are not below them",
    Control.NO_CORE_DUMPS: "let RLIMIT_CORE be lowered",
    Control.NAMESPACES: "install bubblewrap, allow user namespaces, and set worker.isolation: bwrap",
    Control.CGROUP: "run in a container with limits, or give the agent a cgroup that it may write",
    Control.EGRESS: "run on Linux 6.7 or newer, or set worker.isolation: bwrap",
    Control.HOST_MEMORY: "run the host on Linux, with worker.user: agent when root starts it",
    Control.READ_ONLY_ROOT: "run in a container with a read-only root (--read-only)",
    Control.VAULT: "mount the vault read-only, and outside of what the sandbox lets the worker read",
}
"""How to get a control that is missing; a finding that knows better says so itself."""

HOW_TO_ASK: dict[Control, str] = {
    Control.NAMESPACES: "set worker.isolation: bwrap",
    Control.EGRESS: "set sandbox.network.external: false",
    Control.CGROUP: "set sandbox.limits",
    Control.LIMITS: "set sandbox.limits",
}
"""How to ask for a control that a policy may do without."""


def expect(control: Control, policy: Policy) -> str:
    """Return in a few words what a policy wants of a control."""
    words = {
        Control.USER: "not root" if policy.user is None else f"user and group {policy.user}",
        Control.DESCRIPTORS: "none but its own",
        Control.NO_NEW_PRIVILEGES: "set",
        Control.CAPABILITIES: "none",
        Control.FILES: "only the paths of the policy",
        Control.TCP_PORTS: _expect_ports(policy),
        Control.SCOPES: "no signals and sockets of others",
        Control.SYSCALLS: "only those of the policy",
        Control.LIMITS: "those of the policy",
        Control.NO_CORE_DUMPS: "no image of the memory",
        Control.NAMESPACES: "of its own",
        Control.CGROUP: "limits for all processes together",
        Control.EGRESS: "none but the proxy" if policy.network.allow else "none",
        Control.HOST_MEMORY: "not readable",
        Control.READ_ONLY_ROOT: "mounted read-only",
        Control.VAULT: "not readable for the worker, not writable for the host",
    }
    return words[control]


def observe(
    control: Control, policy: Policy, verdict: Verdict, actual: str, evidence: str
) -> Finding:
    """Return what one look at a control has shown, with the control's own severity and way out.

    Args:
        control: which.
        policy: says what is expected.
        verdict: whether it holds.
        actual: what was found, in a few words.
        evidence: where.
    """
    holds = verdict in {Verdict.IN_FORCE, Verdict.NOT_ASKED_FOR}
    return Finding(
        control=control,
        verdict=verdict,
        expected=expect(control, policy),
        actual=actual,
        evidence=evidence,
        severity=SEVERITIES[control],
        way_out="" if holds else WAYS_OUT[control],
    )


def combine(policy: Policy, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding for every control, in their order.

    What was applied, what was seen and what was tried stand side by side: the worst word counts, for a
    control that was applied and does not hold is missing. What a look could not find out counts only
    where no other look did. A control that nobody looked at is unknown, never in force.
    """
    found: dict[Control, list[Finding]] = {}
    for finding in findings:
        if finding.actual != NOT_LOOKED_AT:
            found.setdefault(finding.control, []).append(finding)
    table = {control: _judge(control, policy, found.get(control, ())) for control in Control}
    limits, cgroup = table[Control.LIMITS], table[Control.CGROUP]
    if limits.verdict is Verdict.WEAKER and cgroup.verdict is Verdict.IN_FORCE:
        table[Control.LIMITS] = replace(
            limits, actual=f"{limits.actual}; the cgroup does", severity=Severity.INFO, way_out=""
        )
    return tuple(table.values())


def find_missing(required: Sequence[str], findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return what is required and is not in force, in the order of the requirement.

    What the policy does not ask for is not in force either: who requires namespaces means them.
    """
    by_name = {finding.control.value: finding for finding in findings}
    wanted = (by_name[name] for name in dict.fromkeys(required) if name in by_name)
    return tuple(
        replace(finding, way_out=finding.way_out or HOW_TO_ASK.get(finding.control, ""))
        for finding in wanted
        if finding.verdict is not Verdict.IN_FORCE
    )


def find_critical(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that are critical and do not hold."""
    return tuple(
        finding
        for finding in findings
        if finding.severity is Severity.CRITICAL and not finding.holds
    )


def findings_when_off(policy: Policy) -> tuple[Finding, ...]:
    """Return what there is to say of a policy that applies nothing."""
    assert policy.mode is Mode.OFF
    return tuple(
        replace(
            observe(control, policy, Verdict.MISSING, "not applied", "sandbox.mode is off"),
            way_out="set sandbox.mode: enforce",
        )
        for control in Control
        if control not in OF_SURROUNDINGS
    )


def findings_elsewhere(policy: Policy, system: str) -> tuple[Finding, ...]:
    """Return what there is to say on a system without these kernels.

    Args:
        policy: what would be asked for.
        system: its name, such as ``macOS``.
    """
    return tuple(
        replace(
            observe(
                control, policy, Verdict.MISSING, "not in force", f"{system} has no such means"
            ),
            way_out="run on Linux, or in a container",
        )
        for control in Control
        if not_asked_for(control, policy) is None
    )


OF_SURROUNDINGS = frozenset(
    {Control.CGROUP, Control.HOST_MEMORY, Control.READ_ONLY_ROOT, Control.VAULT}
)
"""Controls that hold, or do not, whatever the sandbox applies to the worker."""


def check_egress(policy: Policy, *, has_way_out: bool = True) -> tuple[Finding, ...]:
    """Return what the kernel cannot hold of a policy with a proxy: it knows ports, and no hosts.

    Args:
        policy: what is expected.
        has_way_out: a route leads to other networks.
    """
    if policy.isolation is Isolation.BWRAP or not policy.network.connect:
        return ()
    port = policy.network.connect[0]
    if not has_way_out:
        actual = f"no route out; of neighbours port {port}, the proxy's, can be reached"
        return (observe(Control.EGRESS, policy, Verdict.IN_FORCE, actual, "/proc/net/route"),)
    open_way = observe(
        Control.EGRESS,
        policy,
        Verdict.WEAKER,
        f"port {port}, the proxy's, can be reached on other hosts too",
        "the policy",
    )
    way_out = "set worker.isolation: bwrap, or run where there is no route out"
    return (replace(open_way, severity=Severity.WARNING, way_out=way_out),)


def not_asked_for(control: Control, policy: Policy) -> Finding | None:
    """Return why a policy does without a control, or None when it wants it."""
    if control is Control.NAMESPACES and policy.isolation is not Isolation.BWRAP:
        reason = "worker.isolation is process"
    elif control is Control.EGRESS and policy.network.external:
        reason = "sandbox.network.external is true"
    else:
        return None
    return observe(control, policy, Verdict.NOT_ASKED_FOR, "not asked for", reason)


def _expect_ports(policy: Policy) -> str:
    network = policy.network
    connect = "any" if network.external else _numbers(network.connect)
    return f"connect to {connect}, listen on {_numbers(network.listen)}"


def _numbers(ports: Sequence[int]) -> str:
    return ", ".join(str(port) for port in ports) or "none"


def _judge(control: Control, policy: Policy, findings: Sequence[Finding]) -> Finding:
    """Return the worst of the findings, with the evidence of all that agree with it."""
    waived = not_asked_for(control, policy)
    if waived is not None:
        return waived
    if not findings:
        return replace(observe(control, policy, Verdict.UNKNOWN, NOT_LOOKED_AT, ""), way_out="")
    worst = min(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict))
    same = [finding for finding in findings if finding.verdict is worst.verdict]
    severity = min((finding.severity for finding in same), key=list(Severity).index)
    words = [finding.actual for finding in same if finding.actual] or ["holds"]
    return Finding(
        control=control,
        verdict=worst.verdict,
        expected=expect(control, policy),
        # What does not hold is told in full.
        actual=words[0] if worst.holds else _join("; ", words),
        evidence=_join(", ", (part for one in same for part in one.evidence.split(", "))),
        severity=severity,
        way_out=next((finding.way_out for finding in same if finding.way_out), ""),
    )


def _join(separator: str, words: Iterable[str]) -> str:
    return separator.join(dict.fromkeys(word for word in words if word))

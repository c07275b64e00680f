"""Confining the present process by a policy: Landlock, seccomp, capabilities, limits."""

from __future__ import annotations

from kagent_sdk.errors import SandboxError
from kagent_sdk.sandbox.application import FailureError, apply
from kagent_sdk.sandbox.controls import Finding
from kagent_sdk.sandbox.plan import make_plan
from kagent_sdk.sandbox.policy import Policy
from kagent_sdk.sandbox.report import make_findings


def confine(policy: Policy) -> tuple[Finding, ...]:
    """Confine this process, and all that it starts, for good; return what is in force.

    In this order: inherited descriptors are closed, limits set, core dumps forbidden, root becomes a
    user, no_new_privs is set, capabilities are given up, Landlock and seccomp installed. In mode
    ``off`` nothing is done; outside Linux nothing can be done, and each finding says so.

    The process must have one thread, in every mode. One that is to run an author's code does not call this: it is
    started by `kagent_sdk.sandbox.start.launch_command`, before anything of the author's runs.

    Raises:
        SandboxError: a control cannot be applied in mode ``enforce``, or one of ``policy.require``
            does not hold. The process is then confined in part: end it.
    """
    try:
        rows = apply(make_plan(policy))
    except FailureError as exc:
        raise SandboxError(exc.control, exc.message, exc.way_out) from exc
    return make_findings(rows)

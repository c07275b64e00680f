"""Compare the variables of a container: some undo what config.yaml says. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.facts import Lockdown, Role, Stated
from kagent_sdk.deploy.lockdown.loosening import Loosening

UPSTREAM = "AGENT_SANDBOX__NETWORK__UPSTREAM"
EGRESS_PORT = 3128

SAFE = {
    "AGENT_SANDBOX__MODE": frozenset({"enforce"}),
    "AGENT_SANDBOX__NETWORK__EXTERNAL": frozenset({"false", "no", "off", "0"}),
    "AGENT_HTTP__AUTH": frozenset({"token"}),
    "AGENT_WORKER__USER": frozenset({"agent"}),
}
"""Variables with values that lift a control, and those that do not."""

SENSITIVE = re.compile(
    r"^AGENT_(SANDBOX(__.*)?|HTTP__(AUTH|TLS).*|WORKER__(USER|COMMAND|ISOLATION).*"
    r"|SECRETS(__.*)?|LIMITS(__.*)?|CALLBACKS(__.*)?|CONFIG)$"
)
"""Variables that stand above what the policy is made from."""

LOADING = frozenset(
    {
        "LD_AUDIT",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "PYTHONPATH",
        "PYTHONSTARTUP",
    }
)
"""They bring other code into host and workers."""


def compare_environment(wanted: Deployment, found: Lockdown) -> Iterator[Loosening]:
    """Yield the variables that stand above the policy."""
    if found.role is Role.OTHER:
        return
    for variable in found.environment:
        yield from _variable(wanted, variable)


def _variable(wanted: Deployment, variable: Stated) -> Iterator[Loosening]:
    name, equals, value = variable.text.partition("=")
    name, value = name.strip().upper(), value.strip().strip("\"'").lower()
    fix = "remove it: config.yaml decides"
    if (name, value) in {(key, text.lower()) for key, text in wanted.environment}:
        return
    if name in SAFE and equals:
        if value not in SAFE[name]:
            text = f"{name}={value}"
            yield Loosening("environment", "as config.yaml says", text, variable.where, fix)
    elif name == UPSTREAM and value == f"{wanted.name}-egress:{EGRESS_PORT}":
        return
    elif SENSITIVE.match(name):
        # Never the value: it may be a secret.
        text = f"{name} is set"
        yield Loosening("environment", "as config.yaml says", text, variable.where, fix, "warning")
    elif name in LOADING:
        text, fix = f"{name} is set", "remove it: what is loaded comes with the image"
        yield Loosening("environment", "the image's code", text, variable.where, fix, "warning")

"""Make all attempts, outside and inside; print what came of them as JSON."""

from __future__ import annotations

import json
import sys

from kagent_sdk.sandbox.policy import Network, Policy
from tests.integration.syscalls import doors, processes
from tests.integration.syscalls.raw import Attempt, make_attempt

POLICIES = dict.fromkeys(
    [
        "make_udp",
        "make_udp_with_garbage",
        "make_mptcp",
        "make_raw",
        "make_packet",
        "make_netlink",
        "make_unix",
        "make_unix_of_pair",
        "connect_by_sending",
        "connect_by_sending_a_message",
        "connect_later",
        "listen_without_port",
    ],
    Policy(network=Network(connect=(3128,))),
)
"""Attempts that count only when some network is allowed; the others are made without any."""


def attempts() -> dict[str, Attempt]:
    """Return all attempts by name."""
    return {
        name: value
        for module in (processes, doors)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }


def main() -> None:
    """Make all attempts."""
    made = {
        name: (
            make_attempt(attempt, None),
            make_attempt(attempt, POLICIES.get(name, Policy())),
        )
        for name, attempt in attempts().items()
    }
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()

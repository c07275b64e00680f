"""The policies that differ in what they allow of syscalls."""

from __future__ import annotations

from kagent_sdk.sandbox.policy import Destination, Isolation, Network, Policy

POLICIES = {
    "no network": Policy(),
    "through the proxy": Policy(
        network=Network(allow=(Destination("api.example.com", 443),), connect=(3128,))
    ),
    "listens": Policy(network=Network(listen=(8000,))),
    "unix sockets": Policy(network=Network(unix_sockets=True)),
    "bwrap": Policy(isolation=Isolation.BWRAP, network=Network(connect=(3128,), unix_sockets=True)),
    "external": Policy(network=Network(external=True)),
    "all": Policy(
        isolation=Isolation.BWRAP,
        network=Network(external=True, listen=(8000,), unix_sockets=True),
    ),
}

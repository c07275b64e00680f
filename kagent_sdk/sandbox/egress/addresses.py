"""What kind of address a name resolved to; pure.

The tables are ours, not `ipaddress.is_global`: that one has changed its mind between patch releases
of Python, and says nothing of the addresses at which clouds hand out credentials. They follow the
IANA registries of special-purpose addresses (RFC 6890 and what updates it).
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address


class AddressKind(enum.StrEnum):
    """Where an address leads."""

    GLOBAL = "global"
    """To a host of the internet."""
    PRIVATE = "private"
    """To a host of this site: RFC 1918, RFC 6598, unique local addresses of IPv6."""
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    """To a service that tells a machine about itself, and gives it credentials."""
    MULTICAST = "multicast"
    EMBEDDED = "embedded"
    """To an IPv4 address that it only wraps: mapped, compatible, 6to4, Teredo."""
    RESERVED = "reserved"
    """To nothing that should answer: unspecified, documentation, benchmarks, future use."""


_METADATA: frozenset[Address] = frozenset(
    {
        IPv4Address("169.254.169.254"),  # AWS, Azure, Google, and those that followed
        IPv4Address("169.254.170.2"),  # Amazon ECS
        IPv4Address("169.254.170.23"),  # Amazon EKS
        IPv4Address("100.100.100.200"),  # Alibaba
        IPv4Address("168.63.129.16"),  # Azure's WireServer, a global address
        IPv4Address("192.0.0.192"),  # Oracle
        IPv6Address("fd00:ec2::254"),
        IPv6Address("fd00:ec2::23"),
        IPv6Address("fd20:ce::254"),  # Google
    }
)

_V4: tuple[tuple[IPv4Network, AddressKind], ...] = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", AddressKind.RESERVED),
        ("10.0.0.0/8", AddressKind.PRIVATE),
        ("100.64.0.0/10", AddressKind.PRIVATE),
        ("127.0.0.0/8", AddressKind.LOOPBACK),
        ("169.254.0.0/16", AddressKind.LINK_LOCAL),
        ("172.16.0.0/12", AddressKind.PRIVATE),
        ("192.0.0.0/24", AddressKind.RESERVED),
        ("192.0.2.0/24", AddressKind.RESERVED),
        ("192.88.99.0/24", AddressKind.RESERVED),
        ("192.168.0.0/16", AddressKind.PRIVATE),
        ("198.18.0.0/15", AddressKind.RESERVED),
        ("198.51.100.0/24", AddressKind.RESERVED),
        ("203.0.113.0/24", AddressKind.RESERVED),
        ("224.0.0.0/4", AddressKind.MULTICAST),
        ("240.0.0.0/4", AddressKind.RESERVED),
    )
)

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""RFC 6052: on a network without IPv4 every name of the old internet resolves to one of these."""

_V6: tuple[tuple[IPv6Network, AddressKind], ...] = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::1/128", AddressKind.LOOPBACK),
        ("::/128", AddressKind.RESERVED),
        ("::/96", AddressKind.EMBEDDED),
        ("::ffff:0:0/96", AddressKind.EMBEDDED),
        ("2001::/32", AddressKind.EMBEDDED),
        ("2001::/23", AddressKind.RESERVED),
        ("2001:db8::/32", AddressKind.RESERVED),
        ("2002::/16", AddressKind.EMBEDDED),
        ("3fff::/20", AddressKind.RESERVED),
        ("fc00::/7", AddressKind.PRIVATE),
        ("fe80::/10", AddressKind.LINK_LOCAL),
        ("fec0::/10", AddressKind.PRIVATE),
        ("ff00::/8", AddressKind.MULTICAST),
        ("2000::/3", AddressKind.GLOBAL),
    )
)
"""The first that fits counts; what fits none is not assigned to anyone."""


def parse_address(text: str) -> Address | None:
    """Return the address that a text is, in its usual spelling; None when it is none.

    Shortened (``127.1``), octal and hexadecimal forms are none, and so is an address with a zone.
    """
    if "%" in text:
        return None
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None


def kind_of(address: Address) -> AddressKind:
    """Return where an address leads."""
    if address in _METADATA:
        return AddressKind.METADATA
    if isinstance(address, IPv4Address):
        for network, kind in _V4:
            if address in network:
                return kind
        return AddressKind.GLOBAL
    if address in _TRANSLATED:
        return kind_of(IPv4Address(int(address) & 0xFFFFFFFF))
    for prefix, kind in _V6:
        if address in prefix:
            return kind
    return AddressKind.RESERVED

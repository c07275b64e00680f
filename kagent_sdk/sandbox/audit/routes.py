"""Whether a network namespace has a way to other networks, by its routing tables. Pure."""

from __future__ import annotations

RTF_GATEWAY = 0x2
"""The route leads to a machine that passes packets on (route.h)."""

RTF_REJECT = 0x200
"""The route refuses what it matches."""

SHORTEST_PREFIX = 8
"""Bits. What matches more than that is no network of neighbours: a tunnel has its default route, or the
two halves of one, without a gateway. No site has a wider range (10.0.0.0/8, fc00::/7 in parts)."""


def has_way_out(ipv4: str, ipv6: str) -> bool:
    """Tell whether a route of one of the tables leads on; what cannot be read may do so.

    Args:
        ipv4: ``/proc/net/route``; empty: it cannot be read, for it has a head.
        ipv6: ``/proc/net/ipv6_route``; empty: no routes, or a kernel without IPv6.
    """
    if not ipv4:
        return True
    try:
        routes = [_read_ipv4(line.split()) for line in ipv4.splitlines()[1:] if line.strip()]
        routes += [_read_ipv6(line.split()) for line in ipv6.splitlines() if line.strip()]
    except (IndexError, ValueError):
        return True
    return any(
        not flags & RTF_REJECT and (flags & RTF_GATEWAY or prefix < SHORTEST_PREFIX)
        for flags, prefix in routes
    )


def _read_ipv4(fields: list[str]) -> tuple[int, int]:
    """Return flags, and how many bits of an address have to match."""
    return int(fields[3], 16), int(fields[7], 16).bit_count()


def _read_ipv6(fields: list[str]) -> tuple[int, int]:
    return int(fields[8], 16), int(fields[1], 16)

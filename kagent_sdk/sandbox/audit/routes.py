"""Whether a network namespace has a way to other networks, by its routing tables. Pure."""

from __future__ import annotations

RTF_GATEWAY = 0x2
"""The route leads to a machine that passes packets on (route.h)."""

_IPV4_FLAGS = 3
_IPV6_FLAGS = 8


def has_way_out(ipv4: str, ipv6: str) -> bool:
    """Tell whether a gateway is in one of the tables; what cannot be read may have one.

    Args:
        ipv4: ``/proc/net/route``; empty: it cannot be read, for it has a head.
        ipv6: ``/proc/net/ipv6_route``; empty: no routes, or a kernel without IPv6.
    """
    if not ipv4:
        return True
    rows = [(line.split(), _IPV4_FLAGS) for line in ipv4.splitlines()[1:]]
    rows += [(line.split(), _IPV6_FLAGS) for line in ipv6.splitlines()]
    return any(_is_gateway(fields, at) for fields, at in rows if fields)


def _is_gateway(fields: list[str], at: int) -> bool:
    try:
        return bool(int(fields[at], 16) & RTF_GATEWAY)
    except (IndexError, ValueError):
        return True

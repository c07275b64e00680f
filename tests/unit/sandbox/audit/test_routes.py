"""What the kernel's routing tables say of a way out."""

from __future__ import annotations

import pytest

from kagent_sdk.sandbox.audit.routes import has_way_out

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
NEIGHBOURS = "eth0\t0000590A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0100590A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
ZERO = "0" * 32
REFUSED6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
LOCAL6 = f"fe80{'0' * 28} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0\n"
DEFAULT6 = f"{ZERO} 00 {ZERO} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth0\n"


TUNNEL = "wg0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
HALF = "tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
SITE = "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
REFUSED = "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n"
TUNNEL6 = f"{ZERO} 00 {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000001      wg0\n"
MULTICAST6 = f"ff00{'0' * 28} 08 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (HEAD, "", False),
        (HEAD + NEIGHBOURS, LOCAL6 + REFUSED6, False),
        (HEAD + NEIGHBOURS, "", False),
        (HEAD + NEIGHBOURS + DEFAULT, "", True),
        (HEAD + NEIGHBOURS, LOCAL6 + DEFAULT6, True),
        (HEAD + NEIGHBOURS + TUNNEL, "", True),
        (HEAD + NEIGHBOURS + HALF, "", True),
        (HEAD + NEIGHBOURS + SITE + REFUSED, LOCAL6 + MULTICAST6, False),
        (HEAD + NEIGHBOURS, LOCAL6 + TUNNEL6, True),
        (HEAD + NEIGHBOURS, "nonsense\n", True),
        ("", "", True),
        (HEAD + "eth0\t00000000\n", "", True),
        (HEAD + "eth0 1 2 x\n", "", True),
        (HEAD + "\n", "\n", False),
    ],
)
def test_a_gateway_or_a_default_route_is_a_way_out(ipv4: str, ipv6: str, *, expected: bool) -> None:
    """On an internal network of an engine there is none; in doubt there is one."""
    assert has_way_out(ipv4, ipv6) is expected

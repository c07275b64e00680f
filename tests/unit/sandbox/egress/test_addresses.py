"""Where an address leads: what is taken for the internet must not be this machine or this site."""

from __future__ import annotations

import pytest

from kagent_sdk.sandbox.egress.addresses import AddressKind, kind_of, parse_address


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("8.8.8.8", "global"),
        ("1.1.1.1", "global"),
        ("172.32.0.1", "global"),
        ("100.128.0.1", "global"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("0.0.0.0", "reserved"),  # noqa: S104 - an address, not one to listen on
        ("0.1.2.3", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("2606:4700:4700::1111", "global"),
        ("::1", "loopback"),
        ("::", "reserved"),
        ("::127.0.0.1", "embedded"),
        ("::ffff:127.0.0.1", "embedded"),
        ("::ffff:8.8.8.8", "embedded"),
        ("::ffff:169.254.169.254", "embedded"),
        ("2002:7f00:1::", "embedded"),
        ("2001:0:1::1", "embedded"),
        ("64:ff9b::8.8.8.8", "global"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::1", "reserved"),
        ("fd00::1", "private"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "reserved"),
        ("3fff::1", "reserved"),
        ("100::1", "reserved"),
        ("4000::1", "reserved"),
    ],
)
def test_the_kind_of_an_address(text: str, kind: str) -> None:
    """By the registries of IANA, and what clouds made of it."""
    address = parse_address(text)

    assert address is not None
    assert kind_of(address) is AddressKind(kind)


@pytest.mark.parametrize(
    "text",
    ["", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "1.2.3.4.5", "::1%lo", "[::1]", "a"],
)
def test_what_is_no_address_in_its_usual_spelling(text: str) -> None:
    """The C library takes some of these for one; two readers must not differ."""
    assert parse_address(text) is None

"""What an allow-list means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import parse_address
from kagent_sdk.sandbox.egress.rules import Rules, leads_inside, parse_authority, show
from kagent_sdk.sandbox.policy import Destination


def rules(*entries: str) -> Rules:
    """Return rules of entries as config.yaml has them."""
    return Rules(
        Destination(host.strip("[]"), int(port))
        for host, _, port in (entry.rpartition(":") for entry in entries)
    )


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("api.example.com:443", "api.example.com", 443),
        ("API.Example.COM:443", "api.example.com", 443),
        ("api.example.com.:443", "api.example.com", 443),
        ("localhost:1", "localhost", 1),
        ("a_b.internal:65535", "a_b.internal", 65535),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("[0:0:0:0:0:0:0:1]:80", "::1", 80),
        ("[FD00:EC2::254]:80", "fd00:ec2::254", 80),
        ("4you.example.com:80", "4you.example.com", 80),
    ],
)
def test_a_destination_has_one_spelling(text: str, host: str, port: int) -> None:
    """Rules compare texts."""
    assert parse_authority(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":443", "a", "a:", "a:0", "a:65536", "a:+1", "a:1 ", "a:123456", "a:٣", "a b:1"),
        *("-a:1", "a-:1", "a..b:1", ".a:1", "*.a:1", "a@b:1", "a/b:1", "ü:1", "a\0:1"),
        *("127.1:1", "0x7f.1:1", "2130706433:1", "1.2.3:1", "a.0x1:1", "256.1.1.1:1", "01.2.3.4:1"),
        *("::1:80", "[::1:80", "[127.0.0.1]:80", "[::1%lo]:80", "[a]:80", "[]:80", "[::1]80"),
        f"{'a' * 64}:1",
        f"{'a.' * 127}a:1",
    ],
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    """Least of all is it guessed at."""
    with pytest.raises(EgressError) as caught:
        parse_authority(text)

    assert caught.value.reason == "bad_request"


def test_a_port_may_be_left_out_where_there_is_a_default() -> None:
    """In URLs."""
    assert parse_authority("a.example", 80) == ("a.example", 80)
    assert parse_authority("[::1]", 80) == ("::1", 80)
    assert parse_authority("[::1]:8", 80) == ("::1", 8)


@given(st.text(max_size=80))
def test_whatever_the_text_there_is_an_answer(text: str) -> None:
    """And what it answers reads as the same again."""
    try:
        host, port = parse_authority(text)
    except EgressError:
        return

    assert parse_authority(show(host, port)) == (host, port)


@pytest.mark.parametrize(
    ("entries", "host", "port", "found"),
    [
        (["a.example.com:443"], "a.example.com", 443, "a.example.com"),
        (["*.example.com:443"], "a.example.com", 443, "*.example.com"),
        (["*.example.com:443"], "b.a.example.com", 443, "*.example.com"),
        (["*.example.com:443", "*.a.example.com:443"], "b.a.example.com", 443, "*.a.example.com"),
        (["*.example.com:443", "a.example.com:443"], "a.example.com", 443, "a.example.com"),
        (["10.0.0.1:80"], "10.0.0.1", 80, "10.0.0.1"),
        (["[0:0::1]:80"], "::1", 80, "::1"),
    ],
)
def test_a_destination_falls_under_the_nearest_entry(
    entries: list[str], host: str, port: int, found: str
) -> None:
    """By which it is counted."""
    assert rules(*entries).find(host, port) == Destination(found, port)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("a.example.com:443", "a.example.com", 80),
        ("a.example.com:443", "b.example.com", 443),
        ("a.example.com:443", "x.a.example.com", 443),
        ("a.example.com:443", "a.example.com.evil.com", 443),
        ("*.example.com:443", "example.com", 443),
        ("*.example.com:443", "evilexample.com", 443),
        ("*.example.com:443", "a.example.com", 8443),
        ("*.0.0.1:80", "10.0.0.1", 80),
    ],
)
def test_what_is_not_listed_is_refused_with_the_line_to_add(
    entry: str, host: str, port: int
) -> None:
    """Copied, it works."""
    with pytest.raises(EgressError) as caught:
        rules(entry).find(host, port)

    assert caught.value.reason == "not_listed"
    assert f'sandbox.network.allow: ["{host}:{port}"]' in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "address"),
    [
        (["api.example.com:443"], "8.8.8.8"),
        (["api.example.com:443"], "2606:4700::1"),
        (["api.example.com:443", "10.0.0.1:443"], "10.0.0.1"),
        (["api.example.com:443", "169.254.169.254:443"], "169.254.169.254"),
        (["*.internal:443"], "10.0.0.1"),
        (["db.internal:443"], "fd00::1"),
        (["cache.default.svc.cluster.local:443"], "10.96.0.1"),
        (["nas.home.arpa:443"], "192.168.1.2"),
        (["redis:443"], "172.18.0.2"),
        (["localhost:443"], "127.0.0.1"),
        (["localhost:443"], "::1"),
        (["127.0.0.1:443"], "127.0.0.1"),
        (["[::ffff:10.0.0.1]:443"], "::ffff:10.0.0.1"),
    ],
)
def test_where_a_name_may_lead(entries: list[str], address: str) -> None:
    """To the internet; inside, where the author has said so."""
    checked = parse_address(address)
    entry = entries[0]
    host, _, port = entry.rpartition(":")

    assert checked is not None
    assert rules(*entries).check(Destination(host.strip("[]"), int(port)), checked)


@pytest.mark.parametrize(
    ("entries", "address"),
    [
        (["api.example.com:443"], "10.0.0.1"),
        (["api.example.com:443"], "127.0.0.1"),
        (["api.example.com:443"], "169.254.169.254"),
        (["api.example.com:443", "10.0.0.1:80"], "10.0.0.1"),
        (["api.example.com:443", "10.0.0.2:443"], "10.0.0.1"),
        (["*.example.com:443"], "192.168.0.1"),
        (["notinternal.example:443"], "10.0.0.1"),
        (["*.internal:443"], "127.0.0.1"),
        (["metadata.google.internal:443"], "169.254.169.254"),
        (["*.internal:443"], "fd00:ec2::254"),
        (["db.internal:443"], "::ffff:10.0.0.1"),
        (["redis:443"], "127.0.0.1"),
        (["localhost:443"], "10.0.0.1"),
        (["localhost:443"], "169.254.169.254"),
        (["api.example.com:443"], "0.0.0.0"),  # noqa: S104
        (["10.0.0.1:443"], "10.0.0.2"),
        (["api.example.com:443"], "64:ff9b::10.0.0.1"),
    ],
)
def test_where_a_name_may_not_lead(entries: list[str], address: str) -> None:
    """Whoever owns the name decides where it leads; the message says how to allow it all the same."""
    checked = parse_address(address)
    host, _, port = entries[0].rpartition(":")

    assert checked is not None
    with pytest.raises(EgressError) as caught:
        rules(*entries).check(Destination(host.strip("[]"), int(port)), checked)

    assert caught.value.reason == "address"
    assert f'sandbox.network.allow: ["{show(str(checked), 443)}"]' in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "host", "is_inside"),
    [
        ("api.example.com:443", "api.example.com", False),
        ("*.example.com:443", "a.internal.example.com", False),
        ("*.internal:443", "a.internal", True),
        ("db.home.arpa:443", "db.home.arpa", True),
        ("redis:6379", "redis", True),
        ("localhost:1", "localhost", True),
        ("10.0.0.1:1", "10.0.0.1", True),
        ("169.254.169.254:80", "169.254.169.254", True),
        ("[fd00::1]:1", "fd00::1", True),
        ("1.1.1.1:53", "1.1.1.1", False),
        ("[2606:4700::1111]:53", "2606:4700::1111", False),
    ],
)
def test_what_is_of_this_site_is_told_without_a_name_server(
    entry: str, host: str, *, is_inside: bool
) -> None:
    """A host without a route out has none, and must know what to ask another proxy for."""
    found = rules(entry).find(host, int(entry.rpartition(":")[2]))

    assert leads_inside(found, host) is is_inside

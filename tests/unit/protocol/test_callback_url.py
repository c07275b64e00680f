"""A callback goes where somebody allowed it to go, whatever its URL looks like."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import KagentError
from kagent_sdk.protocol.callback_url import (
    MAX_URL_CHARS,
    URL_PATTERN,
    CallbackUrl,
    CallbackUrlError,
    is_allowed,
    parse_allowed,
    parse_callback_url,
)


def allows(entry: str, url: str) -> bool:
    """Whether an entry of callbacks.allow lets a callback through."""
    return is_allowed(parse_callback_url(url), [parse_allowed(entry)])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a", CallbackUrl("https", "a", 443, "/", "")),
        ("http://a/", CallbackUrl("http", "a", 80, "/", "")),
        ("HTTPS://Hooks.Example.COM:8443/Kos/x?k=v&a=%20/?", None),
        (
            "https://10.0.0.1/x;y=1,2/(z)!",
            CallbackUrl("https", "10.0.0.1", 443, "/x;y=1,2/(z)!", ""),
        ),
        ("https://[::1]:80/x", CallbackUrl("https", "::1", 80, "/x", "")),
        ("https://a?k", CallbackUrl("https", "a", 443, "/", "k")),
        ("https://my_host-1/%7Ea//b/", CallbackUrl("https", "my_host-1", 443, "/%7Ea//b/", "")),
    ],
)
def test_a_url_is_taken_apart(text: str, url: CallbackUrl | None) -> None:
    """Host and scheme have no case; path and query stay as they are."""
    expected = url or CallbackUrl("https", "hooks.example.com", 8443, "/Kos/x", "k=v&a=%20/?")

    assert parse_callback_url(text) == expected
    assert re.search(URL_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with https://"),
        ("ftp://a/", "must begin with https://"),
        ("//a/", "must begin with https://"),
        ("https:a", "must begin with https://"),
        ("javascript:alert(1)", "must begin with https://"),
        ("https://", "must be a URL: a host"),
        ("https:///path", "must be a URL: a host"),
        ("https://a b/", "printable ASCII"),
        ("https://a/\r\nHost: b", "printable ASCII"),
        ("https://a/\x00", "printable ASCII"),
        ("https://\u0430/", "printable ASCII"),
        ("https://a:80\uff10/", "printable ASCII"),
        ("https://user@a/", "user name or password"),
        ("https://a:b@c/", "user name or password"),
        ("https://hooks.example.com@evil.example/", "user name or password"),
        ("https://hooks.example.com\\@evil.example/", "user name or password"),
        ("https://hooks.example.com\\evil.example/", "must be a URL: a host"),
        ("https://a/#part", "must not hold a fragment"),
        ("https://a/#", "must not hold a fragment"),
        ("https://a:/", "must be a URL: a host"),
        ("https://a:b/", "must be a URL: a host"),
        ("https://a:0/", "port from 1 to 65535"),
        ("https://a:65536/", "port from 1 to 65535"),
        ("https://a:123456/", "must be a URL: a host"),
        ("https://a./", "must be a URL: a host"),
        ("https://a..b/", "must be a URL: a host"),
        ("https://%61/", "must be a URL: a host"),
        ("https://[::1", "must be a URL: a host"),
        ("https://[::1]x/", "must be a URL: a host"),
        ("https://[::1%25eth0]/", "must be a URL: a host"),
        ("https://a/%", "must be a URL: a host"),
        ("https://a/%zz", "must be a URL: a host"),
        ("https://a/<x>", "must be a URL: a host"),
        ("https://a/b\\c", "must be a URL: a host"),
        ("https://a/..", "segments . or .."),
        ("https://a/b/./c", "segments . or .."),
        ("https://a/b/%2e%2E/c", "segments . or .."),
        ("https://a/b%2f..%2fc", "segments . or .."),
        ("https://a/b%5C..%5Cc", "segments . or .."),
        ("https://a/b/%252e%252e/c", "segments . or .."),
        ("https://a/b/..;x=1/c", "segments . or .."),
        ("https://a/" + "b" * MAX_URL_CHARS, "over 2048 characters"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str, message: str) -> None:
    """The one who allows and the one who sends must see the same place."""
    with pytest.raises(CallbackUrlError, match=re.escape(message)) as caught:
        parse_callback_url(text)

    assert isinstance(caught.value, KagentError)
    assert isinstance(caught.value, ValueError)


@given(st.text(max_size=60) | st.from_regex(URL_PATTERN))
def test_no_text_whatever_is_anything_but_a_url_or_an_error(text: str) -> None:
    """It comes from a caller; and what is taken is read alike by the standard library."""
    try:
        url = parse_callback_url(text)
    except CallbackUrlError:
        return

    parts = urlsplit(text)
    assert (parts.scheme, parts.hostname, parts.username) == (url.scheme, url.host, None)
    assert (parts.path or "/", parts.query, parts.fragment) == (url.path, url.query, "")
    assert re.search(URL_PATTERN, text)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("https://a", "https://a/anything?x"),
        ("https://a/", "https://A:443/"),
        ("https://a:443", "https://a/"),
        ("https://a/hooks", "https://a/hooks"),
        ("https://a/hooks", "https://a/hooks?x=/../"),
        ("https://a/hooks", "https://a/hooks/b/c"),
        ("https://a/hooks/", "https://a/hooks/b"),
        ("http://a:8080/", "http://a:8080/x"),
        ("https://[::1]/", "https://[::1]/x"),
    ],
)
def test_a_url_below_an_entry_is_allowed(entry: str, url: str) -> None:
    """What an operator means when writing the beginning of a URL."""
    assert allows(entry, url)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("https://hooks.example.com", "https://hooks.example.com.evil/"),
        ("https://hooks.example.com", "https://xhooks.example.com/"),
        ("https://hooks.example.com", "https://sub.hooks.example.com/"),
        ("https://hooks.example.com", "http://hooks.example.com/"),
        ("https://hooks.example.com", "https://hooks.example.com:8443/"),
        ("http://hooks.example.com", "https://hooks.example.com:80/"),
        ("https://a/hooks", "https://a/hooksx"),
        ("https://a/hooks", "https://a/"),
        ("https://a/hooks", "https://a/Hooks"),
        ("https://a/hooks/", "https://a/hooks"),
        ("https://a/hooks", "https://a/%68ooks"),
    ],
)
def test_a_url_that_only_looks_alike_is_not(entry: str, url: str) -> None:
    """A bare comparison of texts would let most of these through."""
    assert not allows(entry, url)


def test_nothing_is_allowed_where_nothing_is_named() -> None:
    """The default."""
    assert not is_allowed(parse_callback_url("https://a/"), [])


@pytest.mark.parametrize("text", ["https://a/?", "https://a/?x=1", "https://u@a/", "a.example"])
def test_an_entry_ends_with_its_path(text: str) -> None:
    """A query in it would be compared with nothing."""
    with pytest.raises(CallbackUrlError):
        parse_allowed(text)


def test_the_origin_is_what_shares_a_fate() -> None:
    """It names the lane, and stands in logs: no path and no query, which may hold a secret."""
    assert parse_callback_url("https://A/x?y").origin == "https://a:443"
    assert parse_callback_url("http://[::1]:81/x").origin == "http://[::1]:81"

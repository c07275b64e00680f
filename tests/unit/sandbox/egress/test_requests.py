"""What a request asks for, and by which token."""

from __future__ import annotations

import base64

import pytest

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.heads import RequestHead
from kagent_sdk.sandbox.egress.means import Access
from kagent_sdk.sandbox.egress.passage import Way
from kagent_sdk.sandbox.egress.requests import Wish, find_access, read_wish
from kagent_sdk.sandbox.egress.rules import Rules


def basic(text: str) -> tuple[str, str]:
    """Return the header that shows a user name and a password."""
    return "Proxy-Authorization", f"Basic {base64.b64encode(text.encode()).decode()}"


def head(method: str, target: str, *headers: tuple[str, str], body: int = 0) -> RequestHead:
    """Return a head."""
    return RequestHead(method, target, headers, is_old=False, body=body)


@pytest.mark.parametrize(
    ("method", "target", "wish"),
    [
        ("CONNECT", "a.example:443", Wish(Way.TUNNEL, "t", "a.example", 443)),
        ("GET", "http://a.example", Wish(Way.PLAIN, "t", "a.example", 80, "/")),
        ("GET", "HTTP://a.example:8/x?y", Wish(Way.PLAIN, "t", "a.example", 8, "/x?y")),
        ("GET", "http://a.example?y", Wish(Way.PLAIN, "t", "a.example", 80, "/?y")),
        ("OPTIONS", "http://a.example", Wish(Way.PLAIN, "t", "a.example", 80, "*")),
        ("OPTIONS", "http://a.example/", Wish(Way.PLAIN, "t", "a.example", 80, "/")),
        ("GET", "/k/a.example:443/v1?x", Wish(Way.INJECT, "k", "a.example", 443, "/v1?x")),
        ("GET", "/k/a.example:443", Wish(Way.INJECT, "k", "a.example", 443, "/")),
        ("GET", "/k/a.example:443?x", Wish(Way.INJECT, "k", "a.example", 443, "/?x")),
        ("GET", "/k/[::1]:443/", Wish(Way.INJECT, "k", "::1", 443, "/")),
        ("GET", "/k/%5B::1%5D:443/", Wish(Way.INJECT, "k", "::1", 443, "/")),
        (
            "GET",
            "http://127.0.0.1:9/t/a.example:443/x",
            Wish(Way.INJECT, "t", "a.example", 443, "/x"),
        ),
        ("GET", "http://127.0.0.1:9/k/x", Wish(Way.PLAIN, "t", "127.0.0.1", 9, "/k/x")),
        ("GET", "http://a.example/t/x", Wish(Way.PLAIN, "t", "a.example", 80, "/t/x")),
    ],
)
def test_what_is_asked_for(method: str, target: str, wish: Wish) -> None:
    """Three ways, by the form of the target."""
    assert read_wish(head(method, target, basic("agent:t"))) == wish


@pytest.mark.parametrize(
    "refused",
    [
        head("CONNECT", "a.example:443", body=3),
        head("CONNECT", "a.example"),
        head("TRACE", "http://a.example/"),
        head("GET", "https://a.example/"),
        head("GET", "a.example"),
        head("GET", "*"),
        head("GET", "http://u@a.example/"),
        head("GET", "http://a.example/#f"),
        head("GET", "http:///x"),
        head("GET", "/k"),
        head("GET", "/k/a.example/x"),
        head("GET", "/k/a.example:443/#x"),
        head("GET", "/"),
    ],
)
def test_what_the_proxy_does_not_do(refused: RequestHead) -> None:
    """It says so."""
    with pytest.raises(EgressError) as caught:
        read_wish(refused)

    assert caught.value.reason == "bad_request"


@pytest.mark.parametrize(
    "header",
    [
        [],
        [("Proxy-Authorization", "Bearer t")],
        [("Proxy-Authorization", "Basic")],
        [("Proxy-Authorization", "Basic ???")],
        [("Proxy-Authorization", "Basic /////w==")],
        [basic("no colon")],
    ],
)
def test_without_a_token_there_is_none(header: list[tuple[str, str]]) -> None:
    """And nothing that the empty one could open."""
    wish = read_wish(head("CONNECT", "a.example:443", *header))

    assert wish.token == ""
    with pytest.raises(EgressError) as caught:
        find_access({"t": Access(Rules([]))}, wish.token)
    assert caught.value.status == 407


def test_each_token_has_its_own_access() -> None:
    """Those of two generations of workers."""
    old, new = Access(Rules([])), Access(Rules([]))

    assert find_access({"a": old, "b": new}, "b") is new
    assert find_access({"a": old, "b": new}, "a") is old

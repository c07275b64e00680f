"""Heads of HTTP messages: read in one way, or not at all (sockets and smuggling: integration)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.heads import (
    CHUNKED,
    MAX_HEADERS,
    UNTIL_CLOSE,
    parse_request,
    parse_response,
    passed_on,
    write_head,
)


def request(*lines: str, first: str = "GET http://a/ HTTP/1.1") -> bytes:
    """Return a head."""
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def test_a_request_is_read() -> None:
    """Names as they came, values without blanks around them."""
    head = parse_request(request("Host: a", "X-A: \t b c ", "X-Empty:"))

    assert (head.method, head.target, head.is_old, head.body) == ("GET", "http://a/", False, 0)
    assert head.headers == (("Host", "a"), ("X-A", "b c"), ("X-Empty", ""))
    assert head.get("x-a") == "b c"
    assert head.get("none") is None


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Length: 0"], 0),
        (["Content-Length: 17"], 17),
        (["Transfer-Encoding: chunked"], CHUNKED),
        (["Transfer-Encoding: CHUNKED"], CHUNKED),
    ],
)
def test_a_body_has_one_length(lines: list[str], body: int) -> None:
    """By one header."""
    assert parse_request(request("Host: a", *lines)).body == body


@pytest.mark.parametrize(
    ("lines", "first", "closes"),
    [
        ([], "GET / HTTP/1.1", False),
        (["Connection: keep-alive"], "GET / HTTP/1.1", False),
        (["Connection: Close"], "GET / HTTP/1.1", True),
        (["Connection: x", "Connection: a, close"], "GET / HTTP/1.1", True),
        (["Connection: keep-alive"], "GET / HTTP/1.0", True),
    ],
)
def test_who_closes_the_connection(lines: list[str], first: str, closes: bool) -> None:
    """Old clients always."""
    assert parse_request(request("Host: a", *lines, first=first)).wants_close is closes


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
        (request(first="GET / HTTP/1.1"), 400),
        (request("Host: a", "Host: b"), 400),
        (request("Host: a", first="GET / HTTP/1.2"), 400),
        (request("Host: a", first="G(T / HTTP/1.1"), 400),
        (request("Host: a", first=f"GET /{'a' * 17_000} HTTP/1.1"), 400),
        (request("Host: a", "Transfer-Encoding: chunked", first="GET / HTTP/1.0"), 400),
        (request("Host: a", "Content-Length: "), 400),
        (request("Host: a", "Content-Length: 1", "Content-Length: 1"), 400),
        (request("Host: a", f"Content-Length: {1 << 51}"), 400),
        (request(*["Host: a"] * (MAX_HEADERS + 1)), 431),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, status: int) -> None:
    """Whatever a server would forgive."""
    with pytest.raises(EgressError) as caught:
        parse_request(data)

    assert (caught.value.reason, caught.value.status) == ("bad_request", status)


@pytest.mark.parametrize(
    ("first", "lines", "method", "body"),
    [
        ("HTTP/1.1 200 OK", [], "GET", UNTIL_CLOSE),
        ("HTTP/1.1 200", [], "GET", UNTIL_CLOSE),
        ("HTTP/1.0 200 OK", ["Content-Length: 3"], "GET", 3),
        ("HTTP/1.1 200 OK", ["Content-Length: 3"], "GET", 3),
        ("HTTP/1.1 200 OK", ["Content-Length: 3"], "HEAD", 0),
        ("HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], "HEAD", 0),
        ("HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], "POST", CHUNKED),
        ("HTTP/1.1 204 No Content", ["Content-Length: 3"], "GET", 0),
        ("HTTP/1.1 304 Not Modified", [], "GET", 0),
        ("HTTP/1.1 100 Continue", [], "POST", 0),
    ],
)
def test_an_answer_has_one_end(first: str, lines: list[str], method: str, body: int) -> None:
    """By its head, and by what was asked."""
    assert parse_response(request(*lines, first=first), method).body == body


@pytest.mark.parametrize(
    "first", ["HTTP/1.1 20 OK", "HTTP/2 200 OK", "HTTP/1.1 600 X", "ICY 200 OK", ""]
)
def test_an_answer_that_is_none_is_refused(first: str) -> None:
    """It is the server's fault then, not the client's."""
    with pytest.raises(EgressError, match="the answer is malformed") as caught:
        parse_response(request(first=first), "GET")

    assert caught.value.reason == "bad_answer"


def test_headers_of_the_connection_are_not_passed_on() -> None:
    """And those that it names; the length is the message's, whatever the connection says."""
    headers = (
        ("Connection", "x-a, Content-Length"),
        ("X-A", "1"),
        ("X-B", "2"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Authorization", "secret"),
        ("Content-Length", "3"),
    )

    assert passed_on(headers) == [("X-B", "2"), ("Content-Length", "3")]
    assert passed_on(headers, without=["x-b", "content-length"]) == []


def test_a_head_is_written_as_it_is_read() -> None:
    """Bytes beyond ASCII included."""
    data = write_head("GET / HTTP/1.1", [("Host", "a"), ("X-A", "ä")])

    assert data == b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \xe4\r\n\r\n"
    assert parse_request(data).get("x-a") == "ä"


@given(st.binary(max_size=200))
def test_whatever_the_bytes_there_is_an_answer(data: bytes) -> None:
    """And what was read is what is written."""
    try:
        head = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n")
    except EgressError:
        return

    again = parse_request(write_head("GET / HTTP/1.1", head.headers))
    assert again == head


def test_a_long_row_of_blanks_takes_no_time() -> None:
    """A pattern that tries every cut would take minutes."""
    blanks = " " * 30_000
    with pytest.raises(EgressError):
        parse_request(request("Host: a", f"X:{blanks}\0{blanks}"))

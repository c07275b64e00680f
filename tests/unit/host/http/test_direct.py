"""What qualifies for a direct answer, by aiohttp's own parser; the rest goes the ordinary way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from kagent_sdk.host.http.connection import (
    IS_KNOWN_AIOHTTP,
    PARSER_NAMES,
    PROTOCOL_NAMES,
    is_known_aiohttp,
)
from kagent_sdk.host.http.direct import NOT_PLAIN, is_plain


async def parse(head: str) -> Any:
    """Return the message that aiohttp's parser makes of a head."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 65536, auto_decompress=False)
    messages, _, _ = parser.feed_data(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    return messages[0][0]


def plain(head: str) -> bool:
    """Parse a head and judge it."""
    return is_plain(asyncio.run(parse(head)))


PLAIN = "POST /v1/capabilities/echo HTTP/1.1\nHost: x"


@pytest.mark.parametrize(
    "more",
    [
        "",
        "\nContent-Length: 0",
        "\nAccept: */*",
        "\nAccept: application/json",
        "\nConnection: keep-alive",
        "\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "\nAuthorization: Bearer abc",
    ],
)
def test_a_plain_call_qualifies(more: str) -> None:
    """What every client library sends must be fast."""
    assert plain(PLAIN + more)


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_header_with_a_wish_goes_the_ordinary_way(name: str) -> None:
    """Only there such a wish is heard; the case of its name is nobody's business."""
    value = "gzip, chunked" if name == "Transfer-Encoding" else "x"

    assert not plain(f"{PLAIN}\n{name.lower()}: {value}")


@pytest.mark.parametrize(
    "head",
    [
        PLAIN + "\nAccept: text/event-stream",
        PLAIN + "\nAccept: application/json, Text/Event-Stream;q=0.1",
        PLAIN + "\nConnection: close",
        PLAIN + "\nConnection: upgrade\nUpgrade: h2c",
        PLAIN + "\nTransfer-Encoding: chunked",
        PLAIN.replace("HTTP/1.1", "HTTP/1.0"),
        PLAIN.replace("HTTP/1.1", "HTTP/1.0") + "\nConnection: keep-alive",
        PLAIN.replace("POST", "GET"),
        PLAIN.replace("POST", "HEAD"),
        PLAIN.replace("/v1/capabilities/", "/v1/tasks/"),
        PLAIN.replace("/v1/", "http://x/v1/"),
    ],
)
def test_anything_else_goes_the_ordinary_way(head: str) -> None:
    """The ordinary way does everything; the direct one does one thing."""
    assert not plain(head)


def test_the_installed_aiohttp_has_the_private_names_that_direct_answers_need() -> None:
    """An update that renames one costs speed silently: this is where it is found out."""
    assert IS_KNOWN_AIOHTTP


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_an_aiohttp_without_one_of_the_names_is_not_known(name: str) -> None:
    """Then calls go the ordinary way, instead of failing at the first request."""
    names = {each: None for each in PROTOCOL_NAMES if each != name}

    assert not is_known_aiohttp(protocol=type("Protocol", (), names))


def test_another_parser_is_not_known() -> None:
    """The parser in Python counts messages in its own way."""
    names: dict[str, Any] = dict.fromkeys(PARSER_NAMES)
    in_c = type("Parser", (), names | {"__module__": "aiohttp._http_parser"})
    in_python = type("Parser", (), names | {"__module__": "aiohttp.http_parser"})

    assert is_known_aiohttp(parser=in_c)
    assert not is_known_aiohttp(parser=in_python)
    assert not is_known_aiohttp(parser=type("P", (), {"__module__": "aiohttp._http_parser"}))

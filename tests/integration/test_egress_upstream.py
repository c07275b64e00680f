"""A proxy behind a proxy: a host without a route out reaches what is listed, and nothing by mistake."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from kagent_sdk.sandbox.egress.heads import MAX_HEAD_BYTES
from kagent_sdk.sandbox.egress.means import Bounds, Injection
from kagent_sdk.sandbox.policy import Destination
from tests.integration.egress_rig import (
    NAME,
    TOKEN,
    Rig,
    Upstream,
    connect_request,
    credentials,
    running_proxy,
    running_upstream,
    trusting_context,
)

KEY = Injection("x-api-key", "", "api_key", tls=True)
PLAIN_KEY = Injection("x-api-key", "", "api_key", tls=False)
OUTSIDE = f"{NAME}:443"


def lead(near: Rig, port: int, host: str = "127.0.0.1") -> None:
    """Have a proxy reach what is outside by way of another."""
    near.proxy.admit(TOKEN, replace(near.access, upstream=Destination(host, port)))


@contextlib.asynccontextmanager
async def running_open(allow: list[str], address: str = "127.0.0.1") -> AsyncIterator[Rig]:
    """Run a proxy that asks for no token, and finds `NAME` at an address."""
    async with running_proxy(allow, names={NAME: [[address]]}) as rig:
        rig.proxy.admit("", rig.access)
        yield rig


@contextlib.asynccontextmanager
async def running_chain(
    server: Upstream, inject: Injection | None = None
) -> AsyncIterator[tuple[Rig, Rig]]:
    """Run two proxies, of which the second alone can find the server's address."""
    async with (
        running_open(server.allow) as far,
        running_proxy(
            server.allow,
            names={NAME: [], "egress": [["127.0.0.1"]]},
            inject={} if inject is None else {server.where: inject},
            secrets={"api_key": "sk-1"},
        ) as near,
    ):
        lead(near, far.port, "egress")
        yield near, far


async def test_https_goes_through_both() -> None:
    """The everyday case: the agent's container has no route out and no name server for outside."""
    async with running_upstream(tls=True) as server, running_chain(server) as (near, far):
        async with httpx.AsyncClient(proxy=near.url, verify=trusting_context()) as client:
            answer = await client.post(f"https://{server.where}/x", content=b"question" * 100_000)
        passage, error = (await near.observer.wait_ended())[0]

    assert answer.content == b"question" * 100_000
    assert near.resolver.asked == ["egress"]
    assert far.resolver.asked == [NAME]
    assert error is None
    assert passage.sent_bytes > 800_000


async def test_plain_http_is_forwarded_by_both_with_nothing_of_the_proxies() -> None:
    """Through CONNECT only TLS passes; the near proxy's token is none of the server's business."""
    async with (
        running_upstream() as server,
        running_chain(server) as (near, _),
        httpx.AsyncClient(proxy=near.url) as client,
    ):
        answer = await client.post(f"http://{server.where}/x?a=1", content=b"question")
        stream = await client.get(f"http://{server.where}/stream")
        whole = await client.request("OPTIONS", f"http://{server.where}")
    (method, path, headers), *_ = server.requests

    assert answer.content == b"question"
    assert stream.text == "one two three"
    assert whole.status_code == 200
    assert (method, path, headers["host"]) == ("POST", "/x?a=1", server.where)
    assert not {name for name in headers if name.startswith("proxy-")}


async def test_the_server_as_a_whole_is_asked_without_a_path() -> None:
    """RFC 9112, 3.2.4: the last proxy makes the asterisk of it again."""
    async with running_upstream() as server, running_chain(server) as (near, _):
        head = f"OPTIONS http://{server.where} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        answer = await near.say(head.encode() + credentials() + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.requests[0][:2] == ("OPTIONS", "*")


@pytest.mark.parametrize("key", [KEY, PLAIN_KEY])
async def test_a_key_is_added_by_the_first(key: Injection) -> None:
    """The second has no vault; with TLS it does not even see the request."""
    async with (
        running_upstream(tls=key.tls) as server,
        running_chain(server, key) as (near, far),
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{near.endpoint}/{server.where}/v1")
        await far.observer.wait_ended()

    assert answer.text == "hello"
    assert server.requests[0][1] == "/v1"
    assert server.requests[0][2]["x-api-key"] == "sk-1"
    assert near.resolver.asked == ["egress"]


async def test_the_destination_is_verified_through_the_tunnel() -> None:
    """The proxy on the way could send the key anywhere."""
    async with (
        running_upstream(tls=True, name="other.example.com") as server,
        running_chain(server, KEY) as (near, _),
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{near.endpoint}/{server.where}/v1")

    assert (answer.status_code, answer.headers["x-egress-reason"]) == (502, "tls_failed")
    assert server.requests == []


@pytest.mark.parametrize("name", ["db.internal", "db", "localhost", "127.0.0.1"])
async def test_what_is_of_this_site_is_dialled_from_here(name: str) -> None:
    """Peers are on a network of the agent's own; the proxy that leads out is not on it."""
    async with running_upstream() as server:
        allow = [f"{name}:{server.port}", f"127.0.0.1:{server.port}"]
        async with (
            running_open(allow) as far,
            running_proxy(allow, names={name: [["127.0.0.1"]]}) as near,
            httpx.AsyncClient(proxy=near.url) as client,
        ):
            lead(near, far.port)
            answer = await client.get(f"http://{name}:{server.port}/x")

    assert answer.text == "hello"
    assert far.observer.opened_passages == []


async def test_what_the_second_refuses_says_who_and_why() -> None:
    """The two lists differ, or a name leads inside: the author sees one of two proxies' words."""
    async with (
        running_open([OUTSIDE], "10.0.0.1") as far,
        running_proxy([OUTSIDE, "old.example.com:443"]) as near,
    ):
        lead(near, far.port)
        inside = await near.say(connect_request(OUTSIDE))
        unlisted = await near.say(connect_request("old.example.com:443"))

    assert inside.startswith(
        f"HTTP/1.1 403 the proxy 127.0.0.1:{far.port} (sandbox.network.upstream) "
        f"refuses {OUTSIDE}: 403 {OUTSIDE} leads to the private address 10.0.0.1".encode()
    )
    assert b"\r\nX-Egress-Reason: address\r\n" in inside
    assert b"\r\nX-Egress-Reason: not_listed\r\n" in unlisted


async def test_a_plain_request_that_the_second_refuses_is_answered_by_it() -> None:
    """It is an answer like any other, with the line to add in it."""
    async with (
        running_open([]) as far,
        running_proxy([f"{NAME}:80"]) as near,
        httpx.AsyncClient(proxy=near.url) as client,
    ):
        lead(near, far.port)
        answer = await client.get(f"http://{NAME}/")

    assert (answer.status_code, answer.headers["x-egress-reason"]) == (403, "not_listed")
    assert 'sandbox.network.allow: ["api.example.com:80"]' in answer.text


# What another proxy may say


async def ask_through(answer: bytes, *, hangs_up: bool = True) -> tuple[bytes, Rig]:
    """Return what a client gets when the proxy behind its own answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if not hangs_up:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        running_proxy([OUTSIDE], bounds=Bounds(resolve_s=1, connect_s=1)) as near,
    ):
        lead(near, port)
        return await near.say(connect_request(OUTSIDE)), near


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (b"", 502, "unreachable"),
        (b"HTTP/1.1 200 OK\r\n", 502, "unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", 502, "bad_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", 502, "bad_answer"),
        (b"x" * (MAX_HEAD_BYTES + 70_000), 502, "bad_answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 502, "unreachable"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", 502, "unreachable"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n", 502, "unreachable"),
        (b"HTTP/1.1 403 No\r\nX-Egress-Reason: no_secret\r\n\r\n", 502, "unreachable"),
        (b"HTTP/1.1 403 \x9b31m\xff\r\nX-Egress-Reason: address\r\n\r\n", 403, "address"),
        (b"HTTP/1.1 503 " + b"x" * 9000 + b"\r\nX-Egress-Reason: busy\r\n\r\n", 503, "busy"),
        (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01", 502, "bad_answer"),
    ],
)
async def test_nonsense_is_a_refusal_with_a_reason(answer: bytes, status: int, reason: str) -> None:
    """Whoever holds that proxy must gain nothing from the agent's host."""
    got, near = await ask_through(answer)
    passage, error = near.observer.ended[0]

    assert got.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"\r\nX-Egress-Reason: {reason}\r\n".encode() in got
    assert len(got) < 3000
    assert got.partition(b"\r\n")[0].isascii()
    assert error is not None
    assert (passage.outcome, error.reason) == (reason, reason)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_one_that_never_answers_is_given_up(answer: bytes) -> None:
    """A worker's request must not wait for ever, nor hold a place."""
    got, near = await ask_through(answer, hangs_up=False)

    assert got.startswith(b"HTTP/1.1 504 the proxy 127.0.0.1:")
    assert b"(sandbox.network.upstream) does not answer" in got
    assert near.proxy.connections == 0


async def test_one_that_is_not_there_is_named() -> None:
    """Its container has not come up, or the variable names another."""
    async with running_proxy([OUTSIDE]) as near:
        lead(near, 3128, "egress.internal")
        unknown = await near.say(connect_request(OUTSIDE))
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            lead(near, unheard.getsockname()[1])
            gone = await near.say(connect_request(OUTSIDE))

    assert unknown.startswith(
        b"HTTP/1.1 502 the proxy egress.internal:3128 (sandbox.network.upstream): "
        b"egress.internal has no address"
    )
    assert b"(sandbox.network.upstream) cannot be reached: " in gone

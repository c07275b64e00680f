"""What leaves the sandbox: real clients, real TLS, real servers, and nothing that is not listed."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest

from kagent_sdk.sandbox.egress.passage import Way
from tests.integration.egress_rig import (
    NAME,
    TOKEN,
    Rig,
    connect_request,
    credentials,
    running_proxy,
    running_upstream,
    trusting_context,
)

Ask = Callable[[Rig, str, bytes | None], Awaitable[tuple[int, bytes]]]


async def ask_aiohttp(rig: Rig, url: str, body: bytes | None) -> tuple[int, bytes]:
    """Ask with aiohttp, as an author would."""
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=body, proxy=rig.url, ssl=rig.client_tls()) as response,
    ):
        return response.status, await response.read()


async def ask_httpx(rig: Rig, url: str, body: bytes | None) -> tuple[int, bytes]:
    """Ask with httpx, as an author would."""
    async with httpx.AsyncClient(proxy=rig.url, verify=rig.client_tls()) as client:
        response = await client.request("GET" if body is None else "POST", url, content=body)
        return response.status_code, response.content


clients = pytest.mark.parametrize("ask", [ask_aiohttp, ask_httpx])


@clients
async def test_https_goes_through_a_tunnel(ask: Ask) -> None:
    """The everyday case; the proxy sees no byte of what is said."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        answer = await ask(rig, f"https://{upstream.where}/x", b"question" * 100_000)
        passage, error = (await rig.observer.wait_ended())[0]

    assert answer == (200, b"question" * 100_000)
    assert rig.resolver.asked == [NAME]
    assert error is None
    assert (passage.way, passage.address) == (Way.TUNNEL, "127.0.0.1")
    assert passage.sent_bytes > 800_000
    assert passage.received_bytes > 800_000


@clients
async def test_plain_http_is_forwarded_without_what_is_the_proxys(ask: Ask) -> None:
    """The token is worth something to whoever reads it."""
    async with running_upstream() as upstream, running_proxy(upstream.allow) as rig:
        answer = await ask(rig, f"http://{upstream.where}/x?a=1", b"question")
        passage, error = (await rig.observer.wait_ended())[0]
    method, path, headers = upstream.requests[0]

    assert answer == (200, b"question")
    assert (method, path) == ("POST", "/x?a=1")
    assert headers["host"] == upstream.where
    assert not {name for name in headers if name.startswith("proxy-")}
    assert error is None
    assert (passage.way, passage.outcome) == (Way.PLAIN, "done")
    assert (passage.sent_bytes, passage.received_bytes) == (8, 8)


async def test_a_connection_serves_one_plain_request_after_the_other() -> None:
    """Clients keep connections to a proxy; streams, errors and empty answers must not break them."""
    async with (
        running_upstream() as upstream,
        running_proxy(upstream.allow) as rig,
        httpx.AsyncClient(proxy=rig.url, limits=httpx.Limits(max_connections=1)) as client,
    ):
        base = f"http://{upstream.where}"
        stream = await client.get(f"{base}/stream")
        moved = await client.get(f"{base}/moved")
        head = await client.head(f"{base}/x")
        large = await client.get(f"{base}/large")
        connections = rig.proxy.connections

    assert stream.text == "one two three"
    assert (moved.status_code, moved.headers["location"]) == (307, "https://elsewhere.example/")
    assert (head.status_code, head.content) == (200, b"")
    assert large.content == bytes(3_000_000)
    assert connections == 1
    assert len(upstream.requests) == 4


@clients
async def test_what_is_not_listed_is_refused_with_the_line_to_add(ask: Ask) -> None:
    """The author meets an exception of the HTTP client's; it must say what to do."""
    async with running_proxy(["other.example.com:443"]) as rig:
        with pytest.raises(
            (aiohttp.ClientHttpProxyError, httpx.ProxyError),
            match=r'sandbox\.network\.allow: \["api\.example\.com:443"\]',
        ):
            await ask(rig, f"https://{NAME}/", None)

    assert rig.observer.refusals == [("not_listed", f"{NAME}:443")]
    assert rig.resolver.asked == []


async def test_a_plain_request_is_refused_with_the_line_to_add() -> None:
    """It comes as an answer then, for there is no tunnel that could fail."""
    async with running_proxy([]) as rig:
        status, body = await ask_httpx(rig, f"http://{NAME}/", None)

    assert status == 403
    assert b'sandbox.network.allow: ["api.example.com:80"]' in body


@pytest.mark.parametrize("token", ["", "0123456789abcdee", "0123456789abcdef0"])
async def test_only_the_holder_of_the_token_is_served(token: str) -> None:
    """Any process of the machine can connect to the port."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        tunnel = await rig.say(connect_request(upstream.where, token))
        plain = await rig.say(f"GET http://{upstream.where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        own = await rig.say(f"GET /{token}/{upstream.where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert tunnel.startswith(b"HTTP/1.1 407 ")
    assert b'\r\nProxy-Authenticate: Basic realm="egress"\r\n' in tunnel
    assert plain.startswith(b"HTTP/1.1 407 ")
    assert own.startswith(b"HTTP/1.1 407 ")
    assert rig.resolver.asked == []


async def test_a_client_that_speaks_the_http_of_old_can_connect() -> None:
    """Python's own http.client did until 3.12."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        reader, writer = await rig.connect()
        target = upstream.where.encode()
        writer.write(b"CONNECT " + target + b" HTTP/1.0\r\n" + credentials() + b"\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")


# What goes through a tunnel


async def greet(rig: Rig, target: str, hello: bytes) -> bytes:
    """Open a tunnel and say something; return what comes back first behind the proxy's 200."""
    reader, writer = await rig.connect()
    writer.write(connect_request(target))

    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(hello)
    first = await reader.read(100)
    writer.close()
    return first


def hello_for(name: str | None) -> bytes:
    """Return the greeting that OpenSSL makes for a name."""
    outgoing = ssl.MemoryBIO()
    context = trusting_context()
    context.check_hostname = False
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_a_greeting_for_another_host_does_not_pass() -> None:
    """Servers of many hosts answer for the one that is greeted, whoever was asked for."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        good = await greet(rig, upstream.where, hello_for(NAME))
        other = await greet(rig, upstream.where, hello_for("evil.example.com"))
        none = await greet(rig, upstream.where, hello_for(None))
        ended = await rig.observer.wait_ended(3)

    assert good[:1] == b"\x16"
    assert other == none == bytes((21, 3, 3, 0, 2, 2, 112))
    assert [error.reason for _, error in ended if error] == ["wrong_name", "wrong_name"]


async def test_the_client_learns_why_a_greeting_does_not_pass() -> None:
    """A connection that is reset says nothing."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        reader, writer = await rig.connect()
        writer.write(connect_request(upstream.where))
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await writer.start_tls(trusting_context(), server_hostname="evil.example.com")
        writer.close()


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x00", b"\0"],
)
async def test_what_is_no_tls_does_not_pass(first: bytes) -> None:
    """A tunnel for any protocol would be a way out for any protocol."""
    async with running_upstream() as upstream, running_proxy(upstream.allow) as rig:
        assert await greet(rig, upstream.where, first) == b""
        passage, error = (await rig.observer.wait_ended())[0]

    assert error is not None
    assert error.reason == "no_tls"
    assert passage.sent_bytes == 0
    assert upstream.requests == []


async def test_an_address_needs_no_name_in_the_greeting() -> None:
    """No name can be sent for one (RFC 6066)."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        none = await greet(rig, f"127.0.0.1:{upstream.port}", hello_for(None))
        name = await greet(rig, f"127.0.0.1:{upstream.port}", hello_for(NAME))

    assert none[:1] == b"\x16"
    assert name[:1] == b"\x15"


# Where names lead


async def test_a_name_that_leads_to_this_machine_is_refused() -> None:
    """The host's own control port is there, and the services of all others."""
    async with running_upstream(tls=True) as upstream, running_proxy([upstream.where]) as rig:
        with pytest.raises(aiohttp.ClientHttpProxyError, match=r"loopback address 127\.0\.0\.1"):
            await ask_aiohttp(rig, f"https://{upstream.where}/", None)

    assert [getattr(error, "reason", None) for _, error in rig.observer.ended] == ["address"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "10.1.2.3", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0"],  # noqa: S104
)
async def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    """Whoever owns a listed name decides what it resolves to."""
    async with running_proxy([f"{NAME}:443"], names={NAME: [[address]]}) as rig:
        answer = await rig.say(connect_request(f"{NAME}:443"))

    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b'sandbox.network.allow: ["' in answer


async def test_the_address_that_was_checked_is_the_one_that_is_dialled() -> None:
    """DNS rebinding: a second look at the name would find another address."""
    async with running_upstream(tls=True) as upstream:
        answers = [["127.0.0.1"], ["127.0.0.2"]]
        async with running_proxy(upstream.allow, names={NAME: answers}) as rig:
            status, _ = await ask_aiohttp(rig, f"https://{upstream.where}/", None)
            passage, _ = (await rig.observer.wait_ended())[0]
            second = await rig.say(connect_request(upstream.where))

    assert status == 200
    assert passage.address == "127.0.0.1"
    assert rig.resolver.asked == [NAME, NAME]
    assert b"loopback address 127.0.0.2" in second


async def test_of_several_addresses_only_those_that_may_be_are_dialled() -> None:
    """One good address must not open the way to the others."""
    async with running_upstream(tls=True) as upstream:
        names = {NAME: [["10.0.0.1", "169.254.169.254", "127.0.0.1"]]}
        async with running_proxy(upstream.allow, names=names) as rig:
            status, _ = await ask_aiohttp(rig, f"https://{upstream.where}/", None)
            passage, _ = (await rig.observer.wait_ended())[0]

    assert status == 200
    assert passage.address == "127.0.0.1"


async def test_a_name_without_an_address_is_named() -> None:
    """A typo in the URL, most often."""
    async with running_proxy(["no-such.example.com:443"]) as rig:
        answer = await rig.say(connect_request("no-such.example.com:443"))

    assert answer.startswith(b"HTTP/1.1 502 no-such.example.com has no address\r\n")


async def test_a_server_that_is_down_is_named() -> None:
    """The author must know that it is not the sandbox."""
    async with running_upstream() as upstream:
        pass
    async with running_proxy(upstream.allow) as rig:
        answer = await rig.say(connect_request(upstream.where))

    assert answer.startswith(f"HTTP/1.1 502 {upstream.where} cannot be reached: ".encode())


# Ends


async def test_who_loses_the_token_loses_the_connection() -> None:
    """The workers of a generation are gone; what they left behind must not go on."""
    async with running_upstream(tls=True) as upstream, running_proxy(upstream.allow) as rig:
        reader, writer = await rig.connect()
        writer.write(connect_request(upstream.where))
        await reader.readuntil(b"\r\n\r\n")
        rig.proxy.revoke(TOKEN)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        after = await rig.say(connect_request(upstream.where))
        writer.close()

    assert after.startswith(b"HTTP/1.1 407 ")


async def test_a_client_that_hangs_up_ends_its_request() -> None:
    """Nobody is left to answer; the destination should not work for nothing."""
    async with running_upstream() as upstream, running_proxy(upstream.allow) as rig:
        reader, writer = await rig.connect()
        target = f"http://{upstream.where}/wait"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n".encode() + credentials() + b"\r\n")
        await upstream.asked.wait()
        writer.close()
        passage, error = (await rig.observer.wait_ended())[0]
        await upstream.cancelled.wait()
        _ = reader

    assert passage.outcome == "lost"
    assert error is None

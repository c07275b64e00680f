"""The endpoint that adds a secret: the worker uses an API whose key it never holds."""

from __future__ import annotations

import ssl

import httpx
import pytest
import trustme
from aiohttp import web

from kagent_sdk.sandbox.egress.means import Injection
from kagent_sdk.sandbox.egress.passage import Way
from tests.integration.egress_rig import NAME, credentials, running_proxy, running_upstream

KEY = Injection("x-api-key", "", "api_key", tls=True)
PLAIN_KEY = Injection("Authorization", "Bearer ", "api_key", tls=False)


async def test_the_host_adds_the_key_and_speaks_tls() -> None:
    """The worker sends what it likes in that header; it is not what arrives."""
    vault = {"api_key": "sk-first"}
    async with (
        running_upstream(tls=True) as upstream,
        running_proxy(upstream.allow, inject={upstream.where: KEY}, secrets=vault) as rig,
        httpx.AsyncClient(base_url=f"{rig.endpoint}/{upstream.where}") as client,
    ):
        sent = {"X-API-Key": "dummy", "X-Other": "kept"}
        answer = await client.post("/v1/messages?beta=true", content=b"hi", headers=sent)
        vault["api_key"] = "sk-second"
        await client.get("/v1/models")
        passage, error = (await rig.observer.wait_ended(2))[0]

    assert (answer.status_code, answer.content) == (200, b"hi")
    (method, path, headers), (_, _, later) = upstream.requests
    assert (method, path) == ("POST", "/v1/messages?beta=true")
    assert headers["x-api-key"] == "sk-first"
    assert headers["x-other"] == "kept"
    assert headers["host"] == upstream.where
    assert later["x-api-key"] == "sk-second"
    assert error is None
    assert (passage.way, passage.address) == (Way.INJECT, "127.0.0.1")


async def test_a_destination_without_tls_gets_the_key_too() -> None:
    """A service of the same site, where TLS ends before it."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        await client.get(f"{rig.endpoint}/{upstream.where}")

    assert upstream.requests[0][1] == "/"
    assert upstream.requests[0][2]["authorization"] == "Bearer k"


async def test_a_client_that_sends_everything_through_the_proxy_reaches_the_endpoint() -> None:
    """HTTP_PROXY is set, and the endpoint's URL begins with http://."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient(proxy=rig.url) as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{upstream.where}/x")

    assert answer.text == "hello"
    assert upstream.requests[0][2]["authorization"] == "Bearer k"


async def test_an_answer_streams() -> None:
    """Models answer word by word."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{upstream.where}/stream")

    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.text == "one two three"


async def test_a_redirect_does_not_take_the_key_along() -> None:
    """Where it leads is for the worker to see, without the key."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{upstream.where}/moved")

    assert answer.status_code == 307
    assert len(upstream.requests) == 1


async def test_only_what_is_configured_gets_a_key() -> None:
    """An allowed destination is not yet one that may have a secret."""
    async with (
        running_upstream() as upstream,
        running_proxy(upstream.allow, secrets={"api_key": "k"}) as rig,
        httpx.AsyncClient() as client,
    ):
        listed = await client.get(f"{rig.endpoint}/{upstream.where}/x")
        other = await client.get(f"{rig.endpoint}/evil.example.com:443/x")
        none = await client.get(f"{rig.endpoint}/x")

    assert (listed.status_code, listed.headers["x-egress-reason"]) == (403, "not_injected")
    assert (other.status_code, other.headers["x-egress-reason"]) == (403, "not_listed")
    assert (none.status_code, none.headers["x-egress-reason"]) == (400, "bad_request")
    assert upstream.requests == []


@pytest.mark.parametrize("secret", [None, "two\r\nX-Evil: lines", "ключ", "tab\there", " blank"])
async def test_a_secret_that_is_no_header_is_not_sent(secret: str | None) -> None:
    """Nor is any part of it told."""
    vault = {} if secret is None else {"api_key": secret}
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow,
            inject={upstream.where: Injection("x-api-key", "", "api_key", tls=False)},
            secrets=vault,
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{upstream.where}/x")

    assert (answer.status_code, answer.headers["x-egress-reason"]) == (502, "no_secret")
    assert "the vault has no key api_key that can be the header x-api-key" in answer.text
    assert "Evil" not in answer.text
    assert upstream.requests == []


async def test_a_server_that_cannot_show_who_it_is_gets_no_key() -> None:
    """Anyone on the way could ask for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(NAME).configure_cert(context)
    asked: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response()

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]
    allow = [f"{NAME}:{port}", f"127.0.0.1:{port}"]
    async with (
        running_proxy(allow, inject={allow[0]: KEY}, secrets={"api_key": "k"}) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{allow[0]}/x")
    await runner.cleanup()

    assert (answer.status_code, answer.headers["x-egress-reason"]) == (502, "tls_failed")
    assert "unable to get local issuer certificate" in answer.text
    assert asked == []


async def test_a_server_with_another_name_gets_no_key() -> None:
    """A certificate is for a name, and the name is the configuration's."""
    async with (
        running_upstream(tls=True, name="other.example.com") as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"{rig.endpoint}/{upstream.where}/x")

    assert (answer.status_code, answer.headers["x-egress-reason"]) == (502, "tls_failed")
    assert "match" in answer.text
    assert upstream.requests == []


async def test_the_key_does_not_come_back_by_trace() -> None:
    """TRACE answers with the headers of the request (RFC 9110, 9.3.8)."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
        httpx.AsyncClient() as client,
    ):
        answer = await client.request("TRACE", f"{rig.endpoint}/{upstream.where}/x")

    assert answer.status_code == 405
    assert upstream.requests == []


async def test_the_endpoint_is_not_the_proxy_for_other_hosts() -> None:
    """A request with a name in its first line goes there, without a secret."""
    async with (
        running_upstream() as upstream,
        running_proxy(
            upstream.allow, inject={upstream.where: PLAIN_KEY}, secrets={"api_key": "k"}
        ) as rig,
    ):
        sent = (
            f"GET http://{upstream.where}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
        )
        answer = await rig.say(sent + credentials() + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "authorization" not in upstream.requests[0][2]

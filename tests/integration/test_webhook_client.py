"""What comes back from a receiver: every way to answer, and not to answer, is one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from kagent_sdk.host.webhook_client import MAX_ANSWER_BYTES, Request, WebhookClient
from kagent_sdk.journal.delivery import Answer
from tests.integration.receivers import RESET, Receiver, Reply, running_receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    with running_receiver() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    """Give a client."""
    client = WebhookClient(8)
    yield client
    await client.aclose()


def make(url: str, *, body: bytes = b"{}", timeout_s: float = 30) -> Request:
    """Return a request."""
    return Request(url, {"webhook-id": "msg_1"}, body, timeout_s)


@pytest.mark.parametrize("status", [200, 201, 204, 302, 307, 400, 404, 410, 429, 500, 503])
async def test_the_status_is_what_counts(
    receiver: Receiver, client: WebhookClient, status: int
) -> None:
    """Whatever else stands in the answer."""
    receiver.script("/x", Reply(status, body=b"" if status == 204 else b"no matter"))

    assert await client.post(make(f"{receiver.url}/x")) == Answer(status)


async def test_the_request_is_what_the_standard_says_and_no_more(
    receiver: Receiver, client: WebhookClient
) -> None:
    """No cookie of an answer before it, no name and password, no header of a browser."""
    receiver.script("/x?token=1", Reply(200, {"Set-Cookie": "a=b; Path=/"}, b"ok"))
    body = b'{"n": 1.50}'
    for _ in range(2):
        await client.post(make(f"{receiver.url}/x?token=1", body=body))

    for request in receiver.wait_for("/x?token=1", 2):
        assert request.body == body
        names = {name.lower() for name in request.headers}
        assert names == {
            *("host", "content-type", "content-length", "user-agent", "accept"),
            *("accept-encoding", "webhook-id"),
        }
        assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    receiver: Receiver, client: WebhookClient, status: int
) -> None:
    """It would carry the result to a place that nobody has allowed."""
    receiver.script("/x", Reply(status, {"Location": f"{receiver.url}/elsewhere"}))

    assert await client.post(make(f"{receiver.url}/x")) == Answer(status)
    assert [request.path for request in receiver.requests] == ["/x"]


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)]
)
async def test_retry_after_is_read(
    receiver: Receiver, client: WebhookClient, value: str, seconds: float | None
) -> None:
    """The receiver knows best when it will be ready."""
    receiver.script("/x", Reply(429, {"Retry-After": value}))

    assert await client.post(make(f"{receiver.url}/x")) == Answer(429, retry_after_s=seconds)


async def test_a_receiver_that_hangs_up_is_an_answer_too(
    receiver: Receiver, client: WebhookClient
) -> None:
    """A connection that is reset is the most common failure of all."""
    receiver.script("/x", RESET)
    answer = await client.post(make(f"{receiver.url}/x"))

    assert answer.status is None
    assert "no connection" in answer.error or "no answer" in answer.error
    assert len(receiver.requests) == 1


async def test_nobody_listening_is_said_without_the_url(client: WebhookClient) -> None:
    """Path and query may hold the receiver's secret."""
    with running_receiver() as gone:
        url = f"{gone.url}/x?token=hunter2"
    answer = await client.post(make(url))

    assert answer.error.startswith("no connection: ")
    assert "hunter2" not in answer.error


async def test_a_host_without_an_address_is_named_as_such(client: WebhookClient) -> None:
    """A typo in the URL, most often."""
    answer = await client.post(make("http://no-such-host.invalid/x"))

    assert answer.error == "the host's name cannot be resolved"


async def test_a_slow_receiver_is_not_waited_for(receiver: Receiver, client: WebhookClient) -> None:
    """It holds a place that others need."""
    receiver.script("/x", Reply(waits=True))
    answer = await client.post(make(f"{receiver.url}/x", timeout_s=0.2))

    assert answer == Answer(error="no answer within 0.2 s")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"\x00" * 1000,
    ],
)
async def test_what_is_no_http_is_no_acknowledgement(
    receiver: Receiver, client: WebhookClient, raw: bytes
) -> None:
    """A port may have another owner by now."""
    receiver.script("/x?token=hunter2", Reply(raw=raw))
    answer = await client.post(make(f"{receiver.url}/x?token=hunter2"))

    assert answer.status is None
    assert answer.error.startswith("no ")
    assert "hunter2" not in answer.error


async def test_an_answer_without_an_end_does_no_harm(
    receiver: Receiver, client: WebhookClient
) -> None:
    """The status is there; of the rest no more is read than it is worth."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    receiver.script(
        "/x", Reply(raw=endless), Reply(200, body=b"y" * (MAX_ANSWER_BYTES * 50)), Reply(200)
    )

    for _ in range(3):
        assert await client.post(make(f"{receiver.url}/x")) == Answer(200)


async def test_an_answer_that_trickles_is_cut_off(client: WebhookClient) -> None:
    """One byte a second must not hold a place for hours."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    answer = await client.post(make(f"http://127.0.0.1:{port}/x"))
    took_s = time.monotonic() - began
    server.close()
    await client.aclose()
    await server.wait_closed()

    assert answer == Answer(202)
    assert took_s < 20


async def test_a_large_body_arrives(receiver: Receiver, client: WebhookClient) -> None:
    """An output may have megabytes, and the loop goes on meanwhile."""
    body = b'"%b"' % (b"x" * (8 * 1024 * 1024))

    assert await client.post(make(f"{receiver.url}/x", body=body)) == Answer(204)
    assert receiver.at("/x")[0].body == body
    assert receiver.at("/x")[0].headers["Content-Length"] == str(len(body))


async def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, client: WebhookClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A result goes where the operator has allowed it to go, and nowhere in between."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert await client.post(make(f"{receiver.url}/x")) == Answer(204)
    assert "Authorization" not in receiver.at("/x")[0].headers


async def test_a_certificate_that_nobody_signed_is_refused(client: WebhookClient) -> None:
    """Else anyone on the way could read results, and acknowledge them."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_receiver(context) as receiver:
        answer = await client.post(make(f"{receiver.url}/x"))

    assert answer.error.startswith("the connection is not secure")
    assert receiver.requests == []

"""Clients and servers that mean harm: the worker's code, and whoever answers for a listed host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from kagent_sdk.sandbox.egress.heads import MAX_HEAD_BYTES
from kagent_sdk.sandbox.egress.means import Bounds
from tests.integration.egress_rig import (
    NAME,
    TOKEN,
    connect_request,
    credentials,
    running_proxy,
    running_upstream,
)


class Script:
    """A server of bare bytes: takes a request's bytes, answers with what it was given.

    Attributes:
        port: where it listens.
        heard: what it was sent, connection by connection.
    """

    def __init__(self, answer: bytes, until: bytes) -> None:
        self.port = 0
        self.heard: list[bytes] = []
        self._answer = answer
        self._until = until

    @property
    def allow(self) -> list[str]:
        """As `Upstream.allow`."""
        return [f"{NAME}:{self.port}", f"127.0.0.1:{self.port}"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, and hang up."""
        at = len(self.heard)
        self.heard.append(b"")
        with contextlib.suppress(ConnectionError):
            while self._until not in self.heard[at] and (data := await reader.read(65536)):
                self.heard[at] += data
            writer.write(self._answer)
            await writer.drain()
            writer.write_eof()
            while data := await reader.read(65536):
                self.heard[at] += data
        writer.close()


@contextlib.asynccontextmanager
async def running_script(answer: bytes, until: bytes = b"\r\n\r\n") -> AsyncIterator[Script]:
    """Run a `Script`."""
    script = Script(answer, until)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    async with server:
        yield script


def request(port: int, *lines: str, method: str = "POST", body: bytes = b"") -> bytes:
    """Return a plain request with more lines in its head."""
    head = f"{method} http://{NAME}:{port}/x HTTP/1.1\r\nHost: {NAME}\r\n"
    return (
        (head + "".join(f"{line}\r\n" for line in lines)).encode("latin-1")
        + credentials()
        + (b"\r\n" + body)
    )


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4", "Content-Length: 4"),
        ("Content-Length: +4",),
        ("Content-Length: 4, 4",),
        ("Content-Length: 0x4",),
        ("Content-Length: -1",),
        ("Content-Length: 99999999999999999999",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\x0bchunked",),
        ("X: a", " folded: b"),
        ("X: a\nTransfer-Encoding: chunked",),
        ("X: a\rTransfer-Encoding: chunked",),
        ("X: a\0b",),
        (": nameless",),
        ("no colon",),
        ("X\x7f: a",),
        ("Host: other",),
        ("Proxy-Authorization: Basic eDp5",),
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(lines: Sequence[str]) -> None:
    """Where the proxy and the server behind it disagree, a request hides in the body of another."""
    async with running_script(OK) as script, running_proxy(script.allow) as rig:
        answer = await rig.say(request(script.port, *lines, body=b"0\r\n\r\n" + SMUGGLED))
        good = await rig.say(request(script.port, "Connection: close"))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert good.startswith(b"HTTP/1.1 200 ")
    assert len(script.heard) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://api.example.com/ HTTP/2.0\r\n", 400),
        (b"GET http://api.example.com/\r\n", 400),
        (b"GET  http://api.example.com/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://api.example.com/ HTTP/1.1\r\n", 400),
        (b"GET https://api.example.com/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET ftp://api.example.com/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://user@api.example.com/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://api.example.com/#x HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://api.example.com\\@evil/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://api.example.com:80:81/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://127.1/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://0x7f000001/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://2130706433/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://[::1%25lo]/ HTTP/1.1\r\nHost: x\r\n", 400),
        (b"TRACE http://api.example.com/ HTTP/1.1\r\nHost: x\r\n", 405),
        (b"CONNECT api.example.com HTTP/1.1\r\nHost: x\r\n", 400),
        (b"CONNECT api.example.com:0 HTTP/1.1\r\nHost: x\r\n", 400),
        (b"CONNECT api.example.com:65536 HTTP/1.1\r\nHost: x\r\n", 400),
        (b"CONNECT /etc/passwd HTTP/1.1\r\nHost: x\r\n", 400),
        (b"CONNECT api.example.com:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n", 400),
        (b"GET http://api.example.com/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n" + b"X: y\r\n" * 101, 431),
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\n", 431),
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"a" * 4 * MAX_HEAD_BYTES + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ],
)
async def test_a_request_that_is_none_is_refused(head: bytes, status: int) -> None:
    """Each of these has once led a proxy somewhere."""
    async with running_proxy([f"{NAME}:80"]) as rig:
        answer = await rig.say(head + credentials() + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert rig.resolver.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"5;" + b"x" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    ],
)
async def test_a_chunk_that_can_be_read_in_two_ways_ends_the_request(body: bytes) -> None:
    """Nor may the server take what came before for the whole."""
    async with (
        running_script(OK, until=b"0\r\n\r\n") as script,
        running_proxy(script.allow) as rig,
    ):
        answer = await rig.say(request(script.port, "Transfer-Encoding: chunked", body=body))
        await rig.observer.wait_ended()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert all(b"\r\n0\r\n" not in heard for heard in script.heard)


async def test_chunks_are_written_anew() -> None:
    """Extensions and trailers are two more things that two readers may read in two ways."""
    body = b"5;a=b\r\nhello\r\n00\r\nX-Trailer: y\r\n\r\n"
    async with (
        running_script(OK, until=b"\r\n0\r\n\r\n") as script,
        running_proxy(script.allow) as rig,
    ):
        sent = request(script.port, "Transfer-Encoding: chunked", "Connection: close", body=body)
        answer = await rig.say(sent)

    assert answer.endswith(b"\r\n\r\nok")
    assert script.heard[0].partition(b"\r\n\r\n")[2] == b"5\r\nhello\r\n0\r\n\r\n"


async def test_headers_of_the_hop_end_at_the_proxy() -> None:
    """Those that are named in Connection too; but not those that say where the body ends."""
    lines = (
        "Connection: close, x-secret, content-length",
        "X-Secret: 1",
        "TE: trailers",
        "Upgrade: h2c",
        "Keep-Alive: 5",
        "X-Kept: 2",
        "Content-Length: 2",
    )
    async with running_script(OK) as script, running_proxy(script.allow) as rig:
        await rig.say(request(script.port, *lines, body=b"hi"))
    head = script.heard[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")

    assert head == [
        "POST /x HTTP/1.1",
        f"Host: {NAME}:{script.port}",
        "X-Kept: 2",
        "Content-Length: 2",
        "Connection: close",
    ]


async def test_a_client_that_waits_for_the_word_to_go_on_gets_it() -> None:
    """Else a large upload of curl would stand still for a second."""
    async with running_script(OK, until=b"hi") as script, running_proxy(script.allow) as rig:
        reader, writer = await rig.connect()
        writer.write(request(script.port, "Expect: 100-continue", "Content-Length: 2"))
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hi")
        second = await reader.readuntil(b"ok")
        writer.close()

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"xpect" not in script.heard[0]


# Servers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 4 * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 999 Odd\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_not_passed_on(answer: bytes) -> None:
    """What the worker's client makes of it is as open as what the proxy makes of it."""
    async with running_script(answer) as script, running_proxy(script.allow) as rig:
        got = await rig.say(request(script.port))

    assert got.startswith(b"HTTP/1.1 502 ")
    assert b"\r\nX-Egress-Reason: bad_answer\r\n" in got


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart!\r\n0\r\n\r\n",
    ],
)
async def test_a_part_of_an_answer_is_not_shown_as_the_whole(answer: bytes) -> None:
    """The client must find out that something is missing."""
    async with running_script(answer) as script, running_proxy(script.allow) as rig:
        got = await rig.say(request(script.port))
        _, error = (await rig.observer.wait_ended())[0]

    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"part" in got
    assert not got.endswith(b"0\r\n\r\n")
    assert error is not None
    assert error.reason == "bad_answer"


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """As servers of old do it."""
    old = b"HTTP/1.0 200 OK\r\n\r\nall of it"
    async with running_script(old) as script, running_proxy(script.allow) as rig:
        got = await rig.say(request(script.port))
        passage, _ = (await rig.observer.wait_ended())[0]

    assert got.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
    assert got.endswith(b"\r\n\r\nall of it")
    assert passage.outcome == "done"


async def test_a_client_of_old_gets_an_answer_that_it_can_read() -> None:
    """HTTP/1.0 knows no chunks."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n\r\n"
    async with running_script(chunked) as script, running_proxy(script.allow) as rig:
        got = await rig.say(
            f"GET http://{NAME}:{script.port}/ HTTP/1.0\r\n".encode() + credentials() + b"\r\n"
        )

    assert got.endswith(b"\r\n\r\npart")


async def test_an_answer_before_the_requests_end_is_passed_on() -> None:
    """A server may refuse an upload at its head; what is left of it is never the next request."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with running_script(refusal) as script, running_proxy(script.allow) as rig:
        got = await rig.say(request(script.port, "Content-Length: 1000", body=SMUGGLED))

    assert got.startswith(b"HTTP/1.1 413 ")
    assert len(script.heard) == 1


# Bounds


async def test_one_connection_too_many_is_told_so() -> None:
    """Places are given back, and nobody waits for one without knowing."""
    async with running_proxy([], bounds=Bounds(connections=2)) as rig:
        first, second = await rig.connect(), await rig.connect()
        third = await rig.say(b"")
        for _, writer in (first, second):
            writer.close()
        await asyncio.gather(*(reader.read() for reader, _ in (first, second)))
        after = await rig.say(connect_request(f"{NAME}:443"))

    assert third.startswith(b"HTTP/1.1 503 ")
    assert ("busy", ":0") in rig.observer.refusals
    assert after.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("begun", [b"", b"CONNECT api", b"GET / HTTP/1.1\nHost: x\n\n"])
async def test_a_head_that_does_not_end_is_given_up(begun: bytes) -> None:
    """Else some hundred connections that say nothing would close the way out."""
    async with running_proxy([], bounds=Bounds(head_s=0.05)) as rig:
        assert await rig.say(begun) == b""


async def test_a_greeting_that_does_not_come_is_given_up() -> None:
    """A tunnel that nothing is known of is no tunnel."""
    bounds = Bounds(hello_s=0.05)
    async with running_upstream() as upstream, running_proxy(upstream.allow, bounds=bounds) as rig:
        answer = await rig.say(connect_request(upstream.where) + b"\x16\x03\x01")
        _, error = (await rig.observer.wait_ended())[0]

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert error is not None
    assert error.reason == "no_tls"


async def test_a_connection_that_stands_still_is_cut() -> None:
    """Both ends may have forgotten it; its place is needed."""
    bounds = Bounds(idle_s=0.2)
    async with running_upstream() as upstream, running_proxy(upstream.allow, bounds=bounds) as rig:
        sent = f"GET http://{upstream.where}/wait HTTP/1.1\r\nHost: x\r\n".encode()
        answer = await rig.say(sent + credentials() + b"\r\n")
        passage, _ = (await rig.observer.wait_ended())[0]

    assert answer == b""
    assert passage.outcome == "cut"


async def test_a_name_that_takes_too_long_is_given_up() -> None:
    """A name server that is down must not hold places for minutes."""

    async def never(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with running_proxy([f"{NAME}:443"], bounds=Bounds(resolve_s=0.05), resolve=never) as rig:
        answer = await rig.say(connect_request(f"{NAME}:443"))

    assert answer.startswith(b"HTTP/1.1 504 ")


async def test_a_client_that_does_not_read_holds_no_more_than_its_share() -> None:
    """The destination sends gigabytes, the client reads none: the host must not keep them."""
    bounds = Bounds(idle_s=0.4)
    async with running_upstream() as upstream, running_proxy(upstream.allow, bounds=bounds) as rig:
        reader, writer = await rig.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = f"GET http://{upstream.where}/endless HTTP/1.1\r\nHost: x\r\n".encode()
        writer.write(sent + credentials() + b"\r\n")
        passage, _ = (await rig.observer.wait_ended())[0]
        writer.close()
        _ = reader

    assert passage.outcome == "cut"
    # What the kernel's buffers on both sides take, and not the megabytes that were there to read.
    assert passage.received_bytes < 20_000_000


async def test_hundreds_of_hostile_connections_leave_the_proxy_at_work() -> None:
    """Whatever came before, the next good request is served."""
    rubbish = [
        b"\0" * 100,
        b"CONNECT " + b"a" * 300 + b":443 HTTP/1.1\r\n\r\n",
        connect_request("evil.example.com:443"),
        connect_request(f"{NAME}:443", "wrong"),
        b"GET /" + TOKEN.encode() + b"/x HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    bounds = Bounds(head_s=0.5)
    async with running_upstream() as upstream, running_proxy(upstream.allow, bounds=bounds) as rig:
        await asyncio.gather(*(rig.say(one) for one in rubbish * 40))
        sent = f"GET http://{upstream.where}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        good = await rig.say(sent.encode() + credentials() + b"\r\n")

    assert good.startswith(b"HTTP/1.1 200 ")
    assert rig.proxy.connections == 0

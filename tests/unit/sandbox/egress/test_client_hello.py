"""The greeting of TLS, from clients that are real and from bytes that mean harm."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.client_hello import (
    MAX_HELLO_BYTES,
    ClientHello,
    check_name,
    read_client_hello,
)


def real_hello(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """Return what OpenSSL says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def vector(size: int, content: bytes) -> bytes:
    """Return a content with its length before it."""
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    """Return an extension."""
    return struct.pack("!H", kind) + vector(2, content)


def name_extension(*names: bytes, kind: int = 0) -> bytes:
    """Return a server_name extension."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def message(extensions: bytes | None, tail: bytes = b"") -> bytes:
    """Return a ClientHello."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return b"\1" + vector(3, body + tail)


def records(handshake: bytes, size: int = 16384) -> bytes:
    """Return the records that carry a message."""
    return b"".join(
        b"\x16\3\1" + vector(2, handshake[at : at + size]) for at in range(0, len(handshake), size)
    )


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["api.example.com", None])
def test_a_real_greeting_is_read(name: str | None, newest: ssl.TLSVersion) -> None:
    """As OpenSSL writes it."""
    assert read_client_hello(real_hello(name, newest)) == ClientHello(name)


def test_a_greeting_is_read_however_it_is_cut() -> None:
    """Into records, and into what comes at a time."""
    whole = records(real_hello("api.example.com")[5:], 7)

    assert read_client_hello(whole) == ClientHello("api.example.com")
    assert {read_client_hello(whole[:end]) for end in range(len(whole))} == {None}


def test_what_comes_behind_the_greeting_does_not_matter() -> None:
    """Early data of TLS 1.3 comes at once."""
    early = b"\x17\3\3" + vector(2, b"x" * 100)

    assert read_client_hello(real_hello("a.example") + early) == ClientHello("a.example")


def test_a_greeting_without_extensions_has_no_name() -> None:
    """SSL 3 had none."""
    assert read_client_hello(records(message(None))) == ClientHello(None)
    assert read_client_hello(records(message(b""))) == ClientHello(None)


def test_names_are_compared_in_lower_case() -> None:
    """As DNS does."""
    assert read_client_hello(records(message(name_extension(b"API.Example")))) == ClientHello(
        "api.example"
    )


def test_an_encrypted_greeting_is_found() -> None:
    """What is inside is for another host, maybe."""
    hello = read_client_hello(records(message(name_extension(b"a") + extension(0xFE0D, b"x"))))

    assert hello == ClientHello("a", is_encrypted=True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\3\1\0\2\2\x28",
        b"\x16\2\0\0\5",
        b"\x16\3\1\0\0",
        b"\x16\3\1\xff\xff",
        b"\x16\3\1\0\4\2\0\0\0",
        records(b"\1\xff\xff\xff" + bytes(20)),
        records(b"\1\0\x3f\xff" + bytes(20)),
        records(message(None) + b"\1\0\0\0"),
        records(message(None, tail=b"\0")),
        records(message(b"", tail=b"\0")),
        records(message(b"\0")),
        records(message(extension(0, b"")[:-1])),
        records(message(name_extension(b"a") + name_extension(b"b"))),
        records(message(name_extension(b"a", b"b"))),
        records(message(name_extension(b"a", kind=1))),
        records(message(name_extension())),
        records(message(extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x"))),
        records(message(extension(0, b"\0\x09\0\0\xff"))),
        records(message(name_extension("ü".encode()))),
        records(b"\1" + vector(3, b"\3\3")),
        b"".join(b"\x16\3\1\0\1" + bytes([byte]) for byte in b"\1\0\x30\0" + bytes(3000)),
    ],
)
def test_what_is_no_greeting_is_refused(data: bytes) -> None:
    """At once, or when it has become too long."""
    with pytest.raises(EgressError) as caught:
        read_client_hello(data)

    assert caught.value.reason == "no_tls"


@given(st.binary(max_size=300))
def test_whatever_the_bytes_there_is_an_answer(data: bytes) -> None:
    """A worker can send any."""
    for start in (b"", b"\x16\3\1", records(message(None))[:9]):
        try:
            hello = read_client_hello(start + data)
        except EgressError:
            continue

        assert hello is None or isinstance(hello, ClientHello)


@given(st.integers(0, 600), st.integers(0, 255))
def test_whatever_byte_is_wrong_there_is_an_answer(at: int, byte: int) -> None:
    """Lengths above all."""
    hello = bytearray(real_hello("api.example.com"))
    hello[at % len(hello)] = byte
    try:
        found = read_client_hello(bytes(hello))
    except EgressError:
        return

    assert found is None or isinstance(found, ClientHello)


def test_a_long_name_and_many_extensions_fit() -> None:
    """Keys that resist quantum computers are long."""
    many = name_extension(b"a.example") + extension(51, bytes(8000)) + extension(41, bytes(4000))

    assert read_client_hello(records(message(many))) == ClientHello("a.example")
    assert len(many) < MAX_HELLO_BYTES


def test_the_name_must_be_the_one_that_was_asked_for() -> None:
    """Addresses have none."""
    check_name(ClientHello("a.example"), "a.example", is_address=False)
    check_name(ClientHello(None), "10.0.0.1", is_address=True)
    check_name(ClientHello("10.0.0.1"), "10.0.0.1", is_address=True)


@pytest.mark.parametrize(
    ("hello", "is_address", "reason"),
    [
        (ClientHello(None), False, "wrong_name"),
        (ClientHello("b.example"), False, "wrong_name"),
        (ClientHello("x.a.example"), False, "wrong_name"),
        (ClientHello("b.example"), True, "wrong_name"),
        (ClientHello("a.example", is_encrypted=True), False, "encrypted_hello"),
    ],
)
def test_another_name_is_refused(hello: ClientHello, is_address: bool, reason: str) -> None:
    """Else one listed host would open the way to all that share its servers."""
    with pytest.raises(EgressError) as caught:
        check_name(hello, "a.example", is_address=is_address)

    assert caught.value.reason == reason

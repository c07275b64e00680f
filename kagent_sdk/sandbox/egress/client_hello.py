"""Read whom a TLS client wants to speak to from its first bytes (RFC 8446, 4.1.2; RFC 6066, 3); pure.

Nothing in here trusts the bytes: every length is checked against what is there, and all of it is
bounded by `MAX_HELLO_BYTES`.
"""

from __future__ import annotations

from dataclasses import dataclass

from kagent_sdk.errors import EgressError

MAX_HELLO_BYTES = 16 * 1024
"""Of the records that hold the greeting. With keys that resist quantum computers it has 2 KiB; one
record may have 16."""

_HANDSHAKE = 22
_CLIENT_HELLO = b"\x01"
_SERVER_NAME = 0
_HOST_NAME = 0
_ENCRYPTED_HELLO = 0xFE0D
_MAX_RECORD = 16 * 1024
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4

UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))
"""A fatal alert: the client then says more than that the connection was closed."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """A client's greeting.

    Attributes:
        server_name: in lower case; None when it names none.
        is_encrypted: it has a second, encrypted greeting inside (ECH), or pretends to.
    """

    server_name: str | None
    is_encrypted: bool = False


def read_client_hello(data: bytes) -> ClientHello | None:
    """Return the greeting that a connection begins with; None when more bytes are needed.

    Args:
        data: all that has come so far.

    Raises:
        EgressError: it is no TLS, malformed, or too long.
    """
    message, is_whole = _join_records(data)
    if is_whole:
        return _parse(_Bytes(message[_MESSAGE_HEADER:]))
    if len(data) >= MAX_HELLO_BYTES:
        raise _not_tls()
    return None


def check_name(hello: ClientHello, host: str, *, is_address: bool) -> None:
    """See that a greeting is for the host that was asked for.

    Args:
        hello: the greeting.
        host: in lower case, without a dot at its end.
        is_address: it is an address, for which RFC 6066 knows no name.

    Raises:
        EgressError: it is for another, or for no one can tell whom.
    """
    if hello.is_encrypted:
        raise EgressError(
            "encrypted_hello",
            f"the TLS greeting to {host} is encrypted (ECH): whom it is for cannot be checked; "
            "turn ECH off in the client",
        )
    if hello.server_name == host or (is_address and hello.server_name is None):
        return
    said = "no name" if hello.server_name is None else "another name"
    raise EgressError("wrong_name", f"the TLS greeting to {host} has {said} (SNI)")


def _join_records(data: bytes) -> tuple[bytes, bool]:
    """Return what the first handshake records hold, and whether that is one whole message.

    What comes in records behind it (early data) is none of our business.
    """
    message = b""
    at = 0
    while at < len(data):
        header = data[at : at + _RECORD_HEADER]
        if header[0] != _HANDSHAKE or (len(header) > 1 and header[1] != 3):
            raise _not_tls()
        if len(header) < _RECORD_HEADER:
            break
        length = int.from_bytes(header[3:])
        if not 0 < length <= _MAX_RECORD:
            raise _not_tls()
        at += _RECORD_HEADER + length
        message += data[at - length : at]
        if message[:1] not in {b"", _CLIENT_HELLO}:
            raise _not_tls()
        if len(message) < _MESSAGE_HEADER:
            continue
        end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER])
        if end > MAX_HELLO_BYTES or len(message) > end:
            raise _not_tls()  # too long, or one that is followed by another in the same record
        if len(message) == end:
            return message, True
    return message, False


class _Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    @property
    def is_empty(self) -> bool:
        return len(self) == 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _not_tls()
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Bytes:
        """Take a length of ``size`` bytes and as many bytes as it says."""
        return _Bytes(self.take(self.number(size)))


def _parse(body: _Bytes) -> ClientHello:
    body.take(2 + 32)  # legacy_version, random
    body.vector(1)  # legacy_session_id
    body.vector(2)  # cipher_suites
    body.vector(1)  # legacy_compression_methods
    extensions = _Bytes(b"") if body.is_empty else body.vector(2)
    if not body.is_empty:
        raise _not_tls()
    name: str | None = None
    seen: set[int] = set()
    while not extensions.is_empty:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise _not_tls()
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _parse_names(content)
    return ClientHello(name, _ENCRYPTED_HELLO in seen)


def _parse_names(content: _Bytes) -> str:
    """Return the one name of a server_name extension: two could be read in two ways."""
    names = content.vector(2)
    kind = names.number(1)
    name = names.vector(2)
    if kind != _HOST_NAME or not names.is_empty or not content.is_empty:
        raise _not_tls()
    try:
        return name.take(len(name)).decode("ascii").lower()
    except UnicodeDecodeError:
        raise _not_tls() from None


def _not_tls() -> EgressError:
    return EgressError(
        "no_tls", "what goes through CONNECT must be TLS, and begin with its greeting"
    )

"""Which destinations an allow-list means, and to which addresses their names may lead; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.addresses import Address, AddressKind, kind_of, parse_address
from kagent_sdk.sandbox.policy import Destination

PRIVATE_NAMES = frozenset({"internal", "local", "lan", "test", "home.arpa"})
"""No one can register a name that ends so (RFC 6761, 6762, 8375; ICANN's resolution on .internal):
whoever lists one means a host of the site."""

MAX_HOST = 253
"""Characters of a name (RFC 1035)."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMERIC_END = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")
_PORT = re.compile(r"[0-9]{1,5}")


def show(host: str, port: int) -> str:
    """Return a destination as it stands in config.yaml."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Return host and port of ``host:port``, the host in the one spelling that rules compare.

    Names come back in lower case and without the dot at their end, addresses in their shortest form
    and without brackets. What the C library would take for an address though it is not spelled as
    one (``127.1``, ``0x7f000001``) is neither.

    Args:
        text: what a client wrote.
        default_port: when it has none; None: it must.

    Raises:
        EgressError: it is no host and port.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon or port_text.endswith("]"):
        if default_port is None:
            raise _malformed()
        host, port_text = text, str(default_port)
    if _PORT.fullmatch(port_text) is None or not 1 <= int(port_text) <= 65535:
        raise _malformed()
    return _parse_host(host), int(port_text)


def _parse_host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        address = parse_address(text[1:-1]) if ":" in text else None
        if address is None:
            raise _malformed()
        return str(address)
    host = text.lower().removesuffix(".")
    if (address := parse_address(host)) is not None and ":" not in host:
        return str(address)
    if len(host) > MAX_HOST or _NAME.fullmatch(host) is None or _NUMERIC_END.search(host):
        raise _malformed()
    return host


def _malformed() -> EgressError:
    return EgressError("bad_request", "the destination is no host and port")


class Rules:
    """An allow-list.

    Args:
        allow: its entries.
    """

    def __init__(self, allow: Iterable[Destination]) -> None:
        self._entries = {
            (_canonical(entry.host), entry.port): Destination(_canonical(entry.host), entry.port)
            for entry in allow
        }

    def find(self, host: str, port: int) -> Destination:
        """Return the entry that a destination falls under: its own, else the nearest pattern.

        Args:
            host: as `parse_authority` returns it.
            port: 1 to 65535.

        Raises:
            EgressError: none does; the message says the line to add.
        """
        entry = self._entries.get((host, port))
        if entry is None and parse_address(host) is None:
            rest = host
            while entry is None and (rest := rest.partition(".")[2]):
                entry = self._entries.get((f"*.{rest}", port))
        if entry is None:
            where = show(host, port)
            raise EgressError(
                "not_listed",
                f'{where} is not allowed; in config.yaml: sandbox.network.allow: ["{where}"]',
            )
        return entry

    def check(self, entry: Destination, address: Address) -> AddressKind:
        """Return the kind of an address that a destination of ``entry`` may be dialled at.

        Global addresses may always be. Others only when the list has the address itself, with this
        port; a private one also when the entry is a name that only this site can give out
        (`PRIVATE_NAMES`, or one label), and loopback when it is ``localhost``.

        Raises:
            EgressError: it may not; the message says what to add.
        """
        kind = kind_of(address)
        if kind is AddressKind.GLOBAL or (str(address), entry.port) in self._entries:
            return kind
        if kind is AddressKind.PRIVATE and _is_private_name(entry.host):
            return kind
        if kind is AddressKind.LOOPBACK and entry.host == "localhost":
            return kind
        where = show(str(address), entry.port)
        raise EgressError(
            "address",
            f"{show(entry.host, entry.port)} leads to the {kind} address {address}; if that is "
            f'meant, in config.yaml: sandbox.network.allow: ["{where}"], besides the name',
        )


def leads_inside(entry: Destination, host: str) -> bool:
    """Tell whether a destination is one of this site's, by its address or by the kind of its name.

    Args:
        entry: that it falls under.
        host: as `parse_authority` returns it.
    """
    address = parse_address(host)
    if address is not None:
        return kind_of(address) is not AddressKind.GLOBAL
    return entry.host == "localhost" or _is_private_name(entry.host)


def _canonical(host: str) -> str:
    address = parse_address(host)
    return host if address is None else str(address)


def _is_private_name(host: str) -> bool:
    if parse_address(host) is not None or host == "localhost":
        return False
    name = host.removeprefix("*.")
    if "." not in host:
        return True
    return any(name == ending or name.endswith(f".{ending}") for ending in PRIVATE_NAMES)

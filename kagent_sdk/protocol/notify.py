"""The datagrams of sd_notify(3): what a supervised program says of itself. Pure.

A datagram is lines of ``NAME=value``. What is not known is passed over, as systemd does, so that a
program written for a newer service manager runs here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_DATAGRAM_BYTES = 4096
"""Of one datagram; the kernel's own limit for a path is 4096 too, and nobody says more than that."""

MAX_STATUS_CHARS = 256
MAX_ADDRESS_BYTES = 107
"""Of a socket's path, or of an abstract name with its first byte (unix(7): 108 with the end)."""

MAX_EXTENSION_S = 86_400.0
_MAX_DIGITS = 15
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Notification:
    """What one datagram says.

    Attributes:
        is_ready: ``READY=1``.
        is_reloading: ``RELOADING=1``.
        is_stopping: ``STOPPING=1``.
        has_pulse: ``WATCHDOG=1``.
        has_trigger: ``WATCHDOG=trigger``: it wants to be taken for stuck.
        status: ``STATUS=``, one printable line; None when it says nothing of it.
        errno: ``ERRNO=``.
        extend_s: ``EXTEND_TIMEOUT_USEC=``, in seconds, at most `MAX_EXTENSION_S`.
    """

    is_ready: bool = False
    is_reloading: bool = False
    is_stopping: bool = False
    has_pulse: bool = False
    has_trigger: bool = False
    status: str | None = None
    errno: int | None = None
    extend_s: float | None = None


def read_notification(datagram: bytes) -> Notification:
    """Read a datagram; one that is too long or holds a zero byte says nothing (as in systemd)."""
    if len(datagram) > MAX_DATAGRAM_BYTES or b"\0" in datagram:
        return Notification()
    said = _last_values(datagram.decode(errors="replace").split("\n"))
    status = said.get("STATUS")
    extension = _read_number(said.get("EXTEND_TIMEOUT_USEC"))
    watchdog = said.get("WATCHDOG")
    return Notification(
        is_ready=said.get("READY") == "1",
        is_reloading=said.get("RELOADING") == "1",
        is_stopping=said.get("STOPPING") == "1",
        has_pulse=watchdog == "1",
        has_trigger=watchdog == "trigger",
        status=None if status is None else clean_line(status),
        errno=_read_number(said.get("ERRNO")),
        extend_s=(None if extension is None else min(MAX_EXTENSION_S, extension / _MICROSECONDS)),
    )


def _last_values(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, equals, value in pairs if equals}


def _read_number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        return None
    return int(text)


def clean_line(text: str, limit_chars: int = MAX_STATUS_CHARS) -> str:
    """Return a text as one printable line, cut at ``limit_chars`` with an ellipsis."""
    text = text.strip()
    # Cut first: what a hostile sender pads it with costs nothing.
    line = "".join(char if char.isprintable() else " " for char in text[:limit_chars]).strip()
    return line if len(text) <= limit_chars else f"{line[: limit_chars - 1]}…"


def write_notification(values: Mapping[str, str]) -> bytes:
    """Return the datagram that says these values; line breaks in them become spaces."""
    lines = (f"{name}={' '.join(value.splitlines())}" for name, value in values.items())
    return "\n".join(lines).encode(errors="replace")


def read_address(text: str | None) -> str | None:
    """Return what ``NOTIFY_SOCKET`` names, as `socket.sendto` takes it.

    A path, or an abstract name, which is written with ``@`` and begins with a zero byte. None when
    it is unset, of another kind (``vsock:``), or longer than an address may be.
    """
    if not text or text[0] not in "/@" or "\0" in text:
        return None
    if len(text) == 1 or len(text.encode(errors="surrogateescape")) > MAX_ADDRESS_BYTES:
        return None
    return f"\0{text[1:]}" if text[0] == "@" else text


def read_watchdog_s(usec: str | None, watchdog_pid: str | None, own_pid: int) -> float | None:
    """Return how often the service manager wants to hear of us, in seconds (sd_watchdog_enabled(3)).

    Args:
        usec: ``WATCHDOG_USEC``.
        watchdog_pid: ``WATCHDOG_PID``: for whom it is meant; anyone if unset.
        own_pid: this process.

    Returns:
        The longest silence that it allows; None when it expects no sign of life of this process.
    """
    number = _read_number(usec)
    if not number or (watchdog_pid and watchdog_pid != str(own_pid)):
        return None
    return number / _MICROSECONDS

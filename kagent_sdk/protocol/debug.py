"""What a client and an agent say to each other on the debug socket. Pure.

::

    client                              agent
      │ Hello: a line of JSON ───────────▶ host
      │ ◀─────────── Welcome: a line of JSON │   refused: with the reason, and the end
      │ frames ◀──────────────────────▶ worker   (for a command of the host's: the host)

The client sends nothing behind its Hello before it has read the Welcome, so that the connection can
be handed to the worker between two bytes that nobody has read. A frame is its kind (one byte), the
length of its payload (four bytes, the most significant first) and the payload.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kagent_sdk.errors import ProtocolError

VERSION = 1

MAX_LINE_BYTES = 8192
"""Of a Hello or a Welcome, with its newline."""

MAX_PAYLOAD_BYTES = 64 * 1024

MAX_WORDS = 64
MAX_COLUMNS = 1000
"""Also of rows: more is no terminal."""

_HEAD = struct.Struct("!BI")
HEAD_BYTES = _HEAD.size

_SIZE = struct.Struct("!HH")
_TERM = re.compile(r"[A-Za-z0-9._+-]{1,64}")


class Kind(IntEnum):
    """The kinds of frames; the comment says what the payload is."""

    INPUT = 1  # client: bytes that were typed
    RESIZE = 2  # client: columns and rows, two bytes each
    END = 3  # client: nothing; there is no more input
    OUTPUT = 4  # agent: bytes for the client's stdout
    ERROR = 5  # agent: bytes for the client's stderr
    EXIT = 6  # agent: the exit code, one byte; the last frame


_KINDS = frozenset(int(kind) for kind in Kind)


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client wants.

    Attributes:
        command: one command and its arguments; None for a terminal.
        columns, rows: size of the client's terminal.
        term: its kind, as in ``TERM``.
        is_terminal: whether the client's stdout is one.
    """

    command: tuple[str, ...] | None
    columns: int = 100
    rows: int = 30
    term: str = "dumb"
    is_terminal: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the agent answers.

    Attributes:
        session: its number, as in the log; 0 when it was refused.
        refused: why, and the way out; None: the session begins.
    """

    session: int
    refused: str | None = None


def encode_hello(hello: Hello) -> bytes:
    """Return the line that a client begins with.

    Raises:
        ProtocolError: the command is longer than an agent takes.
    """
    command = None if hello.command is None else list(hello.command)
    line = _encode_line(
        {
            "version": VERSION,
            "command": command,
            "columns": hello.columns,
            "rows": hello.rows,
            "term": hello.term,
            "is_terminal": hello.is_terminal,
        }
    )
    if len(line) > MAX_LINE_BYTES or len(command or ()) > MAX_WORDS:
        raise ProtocolError(f"the command is too long: at most {MAX_WORDS} words and 8 KiB")
    return line


def parse_hello(line: bytes) -> Hello:
    """Read a client's first line, with or without its newline. It may come from anyone.

    Raises:
        ProtocolError: it is no Hello of this version; the message is for the client.
    """
    values = _parse_line(line)
    version = values.get("version")
    if version != VERSION:
        raise ProtocolError(f"debug protocol {version!r:.20} is not spoken here, but {VERSION}")
    return Hello(
        command=_command_in(values.get("command")),
        columns=_size_in(values.get("columns")),
        rows=_size_in(values.get("rows")),
        term=_term_in(values.get("term")),
        is_terminal=values.get("is_terminal") is True,
    )


def encode_welcome(welcome: Welcome) -> bytes:
    """Return the line that the agent answers; a reason that is too long is cut."""
    refused = None if welcome.refused is None else welcome.refused[:1000]
    return _encode_line({"version": VERSION, "session": welcome.session, "refused": refused})


def parse_welcome(line: bytes) -> Welcome:
    """Read the agent's answer.

    Raises:
        ProtocolError: it is none.
    """
    values = _parse_line(line)
    session, refused = values.get("session"), values.get("refused")
    if type(session) is not int or not (refused is None or isinstance(refused, str)):
        raise ProtocolError("the answer is no welcome of a debug socket")
    return Welcome(session, refused)


def encode_frame(kind: Kind, payload: bytes = b"") -> bytes:
    """Return one frame.

    Raises:
        ProtocolError: the payload is larger than `MAX_PAYLOAD_BYTES`.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a payload of {len(payload)} bytes is too large")
    return _HEAD.pack(kind, len(payload)) + payload


def encode_resize(columns: int, rows: int) -> bytes:
    """Return the frame that tells of a terminal's new size."""
    bounded = (min(max(number, 1), MAX_COLUMNS) for number in (columns, rows))
    return encode_frame(Kind.RESIZE, _SIZE.pack(*bounded))


def parse_resize(payload: bytes) -> tuple[int, int]:
    """Return columns and rows of a RESIZE, both at least 1.

    Raises:
        ProtocolError: it is none.
    """
    if len(payload) != _SIZE.size:
        raise ProtocolError("a size has four bytes")
    columns, rows = _SIZE.unpack(payload)
    return _size_in(columns), _size_in(rows)


class FrameReader:
    """Cut bytes into frames, however they come; it keeps one unfinished frame at most."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Take the next bytes; return the frames that they complete.

        Raises:
            ProtocolError: they are no frames; nothing that follows can be read.
        """
        self._rest += data
        frames: list[tuple[Kind, bytes]] = []
        start = 0
        while len(self._rest) - start >= HEAD_BYTES:
            number, length = _HEAD.unpack_from(self._rest, start)
            if number not in _KINDS or length > MAX_PAYLOAD_BYTES:
                raise ProtocolError("what came is no frame of the debug protocol")
            end = start + HEAD_BYTES + length
            if len(self._rest) < end:
                break
            frames.append((Kind(number), bytes(self._rest[start + HEAD_BYTES : end])))
            start = end
        del self._rest[:start]
        return frames


def _encode_line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _parse_line(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"the first line is longer than {MAX_LINE_BYTES} bytes")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("the first line is no JSON object") from None
    if not isinstance(values, dict):
        raise ProtocolError("the first line is no JSON object")
    return values


def _command_in(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_WORDS:
        raise ProtocolError(f"a command is a list of 1 to {MAX_WORDS} words")
    if not all(isinstance(word, str) for word in value):
        raise ProtocolError("the words of a command are strings")
    return tuple(value)


def _size_in(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_COLUMNS:
        raise ProtocolError(f"a terminal has 1 to {MAX_COLUMNS} columns and rows")
    return value


def _term_in(value: object) -> str:
    if not isinstance(value, str) or not _TERM.fullmatch(value):
        raise ProtocolError("term should be the name of a kind of terminal, such as xterm")
    return value

"""Where in the tar file everything lies, to the byte. Pure.

A tar file can say the same thing in many ways, and readers disagree on the odd ones. Here a member
has one head that follows from its name and size alone. So what reads a snapshot never interprets a
head: it knows from the manifest which bytes must come, and takes no others. Every common tar program
reads the result (POSIX.1-2017, pax, "ustar interchange format" and "pax extended header").
"""

from __future__ import annotations

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
"""Two blocks of zeros end the file."""

NAME_BYTES = 100
PREFIX_BYTES = 155
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_MTIME = slice(136, 148)
_TYPE = slice(156, 157)
_REGULAR = b"0"
_EXTENDED = b"x"
_EXTENDED_NAME = b"PaxHeader"

_KINDS = {
    b"\0": "a file of another form",
    b"0": "a file",
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"L": "a long name",
    b"K": "a long link",
    b"g": "a global header",
    b"x": "an extended header",
}


def head(name: str, size_bytes: int, mtime_s: int) -> bytes:
    """Return what stands before the bytes of a member: one block, or three for a long name.

    Args:
        name: relative, with slashes.
        size_bytes: under 8**11.
        mtime_s: seconds since the epoch.
    """
    raw = name.encode()
    place = _split(raw)
    if place is not None:
        return _block(raw[place[1] :], raw[: place[0]], size_bytes, mtime_s, _REGULAR)
    record = _record(b"path=" + raw)
    return (
        _block(_EXTENDED_NAME, b"", len(record), mtime_s, _EXTENDED)
        + record
        + padding(len(record))
        + _block(raw[:NAME_BYTES], b"", size_bytes, mtime_s, _REGULAR)
    )


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill the last block of a member."""
    return bytes(-size_bytes % BLOCK_BYTES)


def read_numbers(block: bytes) -> tuple[int, int] | None:
    """Return size and time that the head of the first member names; None when it is no head."""
    size, mtime = (_octal(block[field]) for field in (_SIZE, _MTIME))
    return None if size is None or mtime is None else (size, mtime)


def describe(block: bytes) -> str:
    """Say what a head that should not be there stands for, for an error message."""
    if not any(block):
        return "the end of the archive"
    raw = block[345:500].rstrip(b"\0") + b"/" + block[:NAME_BYTES].rstrip(b"\0")
    name = raw.lstrip(b"/")[:NAME_BYTES].decode("ascii", "backslashreplace")
    shown = "".join(char if " " <= char <= "~" else "?" for char in name)
    return f"{_KINDS.get(block[_TYPE], 'something')} with the name '{shown}'"


def _split(raw: bytes) -> tuple[int, int] | None:
    """Return where the prefix ends and where the name begins; None when it does not fit."""
    if not raw.isascii():
        return None
    if len(raw) <= NAME_BYTES:
        return 0, 0
    slash = raw.find(b"/", len(raw) - NAME_BYTES - 1)
    return None if not 0 < slash <= PREFIX_BYTES else (slash, slash + 1)


def _block(name: bytes, prefix: bytes, size_bytes: int, mtime_s: int, kind: bytes) -> bytes:
    fields = (
        name.ljust(NAME_BYTES, b"\0"),
        b"0000600\0" + b"0000000\0" * 2,  # for the owner alone, whoever that is
        b"%011o\0" % size_bytes,
        b"%011o\0" % mtime_s,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0" * 2,
        prefix.ljust(PREFIX_BYTES, b"\0"),
        bytes(12),
    )
    block = bytearray(b"".join(fields))
    assert len(block) == BLOCK_BYTES
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(text: bytes) -> bytes:
    """Return a record of an extended header: its own length in decimal, a blank, text, newline."""
    size = len(text) + 2
    while len(b"%d" % size) + len(text) + 2 != size:
        size = len(b"%d" % size) + len(text) + 2
    return b"%d %b\n" % (size, text)


def _octal(field: bytes) -> int | None:
    digits = field[:11]
    is_number = field[11:] == b"\0" and all(digit in b"01234567" for digit in digits)
    return int(digits, 8) if is_number else None

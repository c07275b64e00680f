"""Reading ``runtime/memory_store.json``: a file that a person may have written, or a crash torn.

::

    {
      "$kagent": {"format": 1, "agent": "hello", "exported_at": "2026-11-24T17:41:25.120Z",
                  "expires": {"sessions/7": "2026-11-24T18:00:00.000Z"}},
      "sessions/7": {"user": "ada"},
      "users/42/name": "Ada"
    }

The member ``$kagent`` may be left out, and each of its own but ``format``. Nothing of a file is used
when anything of it is wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path

from kagent_sdk.errors import StateFileError
from kagent_sdk.protocol.state import KEY_RULE, MAX_VALUE_BYTES, is_key
from kagent_sdk.state.text_window import TextWindow, read_string

FORMAT = 1
HEAD = "$kagent"
EXPIRES = "expires"
_HEAD_MEMBERS = frozenset({"format", "agent", "exported_at", EXPIRES})
MAX_KEYS = 4_000_000
"""Of one file; each takes some hundred bytes of memory while it is read."""

_LARGEST_RATIO = 32
"""A file is at most so many times as large as its keys and values: the worst that an export can be
is a state of keys and values of one byte each that all expire."""

_SLACK_BYTES = 1024 * 1024
_MAX_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What a file may be.

    Attributes:
        agent: the name that may stand in it.
        quota_bytes: what its keys and values may take.
    """

    agent: str
    quota_bytes: int

    @property
    def max_bytes(self) -> int:
        """How large a file may be, white space and all."""
        return self.quota_bytes * _LARGEST_RATIO + _SLACK_BYTES


@dataclass(frozen=True, slots=True)
class Signature:
    """By what a file is told from another, or from itself after a change, without reading it."""

    device: int
    inode: int
    size_bytes: int
    changed_at_ns: int

    @staticmethod
    def of(facts: os.stat_result) -> Signature:
        """Return that of a file."""
        return Signature(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


class MemoryFile:
    """An open file; iterate `items` to the end, then the rest is known.

    Attributes:
        expires: when keys expire, in seconds since the epoch; some may not be in the file.
        sha256: of the whole content, in hexadecimal.
        exported_at: when an agent wrote it, as it stands there; None: a person did.
    """

    def __init__(self, file: FileIO, limits: FileLimits) -> None:
        self._file = file
        self._limits = limits
        self._hash = hashlib.sha256()
        self._read_bytes = 0
        self.expires: dict[str, float] = {}
        self.exported_at: str | None = None

    @property
    def sha256(self) -> str:
        """The hash of what was read."""
        return self._hash.hexdigest()

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield every key and its raw JSON value, in the order of the file.

        Raises:
            StateFileError: something is wrong with the file; what came before is not to be used.
        """
        window = TextWindow(self._read)
        seen: set[str] = set()
        used_bytes = 0
        has_head = False
        for key, value in window.read_object((HEAD,)):
            if value is None:
                if has_head:
                    raise window.error(f'a second "{HEAD}"')
                has_head = True
                self._read_head(window)
                continue
            _check_item(key, value)
            used_bytes += len(key.encode()) + len(value)
            if used_bytes > self._limits.quota_bytes:
                raise StateFileError(
                    f"keys and values take over {self._limits.quota_bytes} bytes: raise "
                    "state.quota_bytes in config.yaml"
                )
            if key in seen:
                raise StateFileError(f"key {key!r:.200} stands there twice")
            if len(seen) == MAX_KEYS:
                raise StateFileError(f"more than {MAX_KEYS} keys")
            seen.add(key)
            yield key, value
        window.finish()

    def _read(self, size: int) -> bytes:
        data = _read(self._file, size)
        self._hash.update(data)
        self._read_bytes += len(data)
        if self._read_bytes > self._limits.max_bytes:
            raise StateFileError(_too_large(self._limits))
        return data

    def _read_head(self, window: TextWindow) -> None:
        found: object = None
        for name, value in window.read_object((EXPIRES,)):
            if value is None:
                self._read_expires(window)
                continue
            if name not in _HEAD_MEMBERS:
                raise StateFileError(f'"{HEAD}" has an unknown member {name!r:.100}')
            text = _scalar(value)
            if name == "format":
                found = text
            elif name == "exported_at":
                _time(text, f'"{HEAD}"."exported_at"')
                self.exported_at = str(text)
            elif text != self._limits.agent:
                raise StateFileError(
                    f"it belongs to another agent, {text!r:.100}: this one is "
                    f"{self._limits.agent!r}"
                )
        if type(found) is not int or found != FORMAT:
            raise StateFileError(f'"{HEAD}"."format" should be {FORMAT}, not {found!r:.100}')

    def _read_expires(self, window: TextWindow) -> None:
        for key, value in window.read_object(()):
            assert value is not None, "nothing is streamed here"
            if len(self.expires) == MAX_KEYS:
                raise StateFileError(f"more than {MAX_KEYS} keys expire")
            self.expires[key] = _time(_scalar(value), f"the end of key {key!r:.200}")


def _check_item(key: str, value: bytes) -> None:
    if not is_key(key):
        raise StateFileError(f"{key!r:.200} is no key: a key has {KEY_RULE}")
    if len(value) > MAX_VALUE_BYTES:
        raise StateFileError(f"the value of key {key!r:.200} is over {MAX_VALUE_BYTES} bytes")


def _scalar(value: bytes) -> object:
    if len(value) > _MAX_HEAD_BYTES or value[:1] in (b"[", b"{"):
        raise StateFileError(f'"{HEAD}" has a member that is no short text or number')
    if value[:1] == b'"':
        return read_string(value)
    parsed: object = json.loads(value)
    return parsed


def _time(text: object, what: str) -> float:
    try:
        at = datetime.fromisoformat(text if isinstance(text, str) else "")
        # A time without a zone would mean another moment in another place.
        at_s = math.nan if at.tzinfo is None else at.timestamp()
    except (ValueError, OverflowError):
        at_s = math.nan
    if math.isnan(at_s):
        raise StateFileError(
            f"{what} should be a time such as 2026-11-24T18:00:00Z, not {text!r:.100}"
        )
    return at_s


@contextmanager
def open_memory_file(path: Path, limits: FileLimits) -> Iterator[MemoryFile]:
    """Open a file to read the state from; it blocks.

    Raises:
        StateFileError: it cannot be opened, or is a link, a folder, a device or the like.
    """
    with _open_regular(path) as file:
        yield MemoryFile(file, limits)


def check_memory_file(path: Path, limits: FileLimits) -> str:
    """Read a whole file, use nothing of it, and return its hash; it blocks.

    Raises:
        StateFileError: something is wrong with it.
    """
    with open_memory_file(path, limits) as file:
        for _item in file.items():
            pass
        return file.sha256


def identify(path: Path, limits: FileLimits) -> tuple[str, Signature]:
    """Return the hash of a file's content and its signature; it blocks.

    Raises:
        StateFileError: it cannot be read, is no regular file, or is too large to be the state's.
    """
    content = hashlib.sha256()
    with _open_regular(path) as file:
        signature = Signature.of(os.fstat(file.fileno()))
        if signature.size_bytes > limits.max_bytes:
            raise StateFileError(_too_large(limits))
        while chunk := _read(file, _SLACK_BYTES):
            content.update(chunk)
    return content.hexdigest(), signature


@contextmanager
def _open_regular(path: Path) -> Iterator[FileIO]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hold us
    try:
        descriptor = os.open(path, flags)
    except OSError as exc:
        if path.is_symlink():
            raise StateFileError("not a regular file, but a link") from None
        raise StateFileError(f"cannot be read: {exc.strerror}") from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StateFileError("not a regular file")
        with FileIO(descriptor, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _read(file: FileIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as exc:
        raise StateFileError(f"cannot be read: {exc.strerror}") from exc


def _too_large(limits: FileLimits) -> str:
    return f"over {limits.max_bytes} bytes, too large for state.quota_bytes in config.yaml"

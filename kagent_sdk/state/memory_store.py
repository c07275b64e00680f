"""Writing ``runtime/memory_store.json``: whole or not at all, and never over what is not ours."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from json.encoder import encode_basestring
from pathlib import Path

from kagent_sdk.errors import StateFileError
from kagent_sdk.state.file_record import Problem
from kagent_sdk.state.memory_file import (
    EXPIRES,
    FORMAT,
    HEAD,
    FileLimits,
    Signature,
    check_memory_file,
    identify,
)
from kagent_sdk.state.store import usage
from kagent_sdk.storage.quarantine import free_name, put_aside, sync_folder

NAME = "memory_store.json"
PREVIOUS_NAME = "memory_store.previous.json"
DRAFT_NAME = "memory_store.json.tmp"

_WRITE_BYTES = 1024 * 1024
_LINES = "SELECT key, value FROM state WHERE expires_at IS NULL OR expires_at > ? ORDER BY key"
_ENDS = "SELECT key, expires_at FROM state WHERE expires_at > ? ORDER BY key"
_EDITED = (
    "not what the agent wrote last (somebody has edited it, or a snapshot was restored), and not read, "
    "for the database is the state; to use it all the same stop the agent, move journal.db away and "
    f"rename this file to {NAME}"
)


class ExportAbandonedError(Exception):
    """An export was told to stop; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is written and waits to take its place.

    Attributes:
        version: of the state that is in it.
        sha256: of its content.
        at_s: when it was written, in seconds since the epoch.
    """

    version: int
    sha256: str
    at_s: float


class MemoryStore:
    """The file, the version before it, and what was put aside. All methods block.

    Args:
        folder: where they lie, ``runtime/``.
        limits: what a valid one may be; its agent's name goes into it.

    Attributes:
        path: of the file.
        previous: of the good version before it.
    """

    def __init__(self, folder: Path, limits: FileLimits) -> None:
        self.folder = folder
        self.limits = limits
        self.path = folder / NAME
        self.previous = folder / PREVIOUS_NAME
        self._draft = folder / DRAFT_NAME
        self._signature: Signature | None = None

    def is_present(self) -> bool:
        """Tell whether anything has the file's name."""
        return _facts(self.path) is not None

    def is_untouched(self) -> bool:
        """Tell whether the file is there as `install` or `settle` left it."""
        facts = _facts(self.path)
        return facts is not None and Signature.of(facts) == self._signature

    def settle(self, known: frozenset[str], now_s: float) -> Problem | None:
        """Put the present file aside unless it is one of ours; return what was wrong with it.

        Args:
            known: hashes of the files that are.
            now_s: seconds since the epoch.

        Raises:
            OSError: the folder is not writable.
        """
        if not self.is_present() or self.is_untouched():
            return None
        try:
            sha256, signature = identify(self.path, self.limits)
            if sha256 in known:
                self._signature = signature
                return None
            check_memory_file(self.path, self.limits)
        except StateFileError as exc:
            return Problem(put_aside(self.path, now_s).name, now_s, str(exc))
        stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%S")
        target = free_name(self.folder / f"memory_store.edited-{stamp}.json")
        self.path.rename(target)
        sync_folder(self.folder)
        return Problem(target.name, now_s, _EDITED)

    def write_draft(
        self,
        connection: sqlite3.Connection,
        now_s: float,
        *,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> Draft:
        """Write the state, as a connection sees it, beside the file, and make it safe.

        Args:
            connection: sees one moment all the time.
            now_s: seconds since the epoch.
            is_abandoned: asked now and then whether to stop.

        Raises:
            OSError: it cannot be written.
            ExportAbandonedError: ``is_abandoned``.
        """
        with suppress(FileNotFoundError):
            self._draft.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._draft, flags, 0o600)
        try:
            with FileIO(descriptor, "wb") as file:
                sha256 = _write_text(
                    file, _text(connection, self.limits.agent, now_s), is_abandoned
                )
                os.fsync(descriptor)
        except BaseException:
            self._draft.unlink()
            raise
        return Draft(usage(connection).version, sha256, now_s)

    def install(self, now_s: float) -> None:
        """Let the draft take the file's place; what was there becomes the previous version.

        Args:
            now_s: seconds since the epoch.

        Raises:
            OSError: it cannot be done; the file that was there, or the previous one, is there still.
        """
        if self.is_present():
            self._keep_previous(now_s)
        self._draft.replace(self.path)
        sync_folder(self.folder)
        facts = _facts(self.path)
        self._signature = None if facts is None else Signature.of(facts)

    def _keep_previous(self, now_s: float) -> None:
        facts = _facts(self.previous)
        if facts is not None and stat.S_ISDIR(facts.st_mode):
            put_aside(self.previous, now_s)
        second = self.previous.with_name(PREVIOUS_NAME + ".tmp")
        with suppress(FileNotFoundError):
            second.unlink()
        try:
            os.link(self.path, second, follow_symlinks=False)
        except OSError:
            self.path.replace(self.previous)  # a filesystem without hard links
            return
        second.replace(self.previous)


def one_line(value: bytes) -> bytes:
    """Return raw JSON without line breaks: outside of strings they mean nothing, inside none are."""
    if b"\n" not in value and b"\r" not in value:
        return value
    lines = (line.strip() for line in value.replace(b"\r", b"\n").split(b"\n"))
    return b" ".join(line for line in lines if line)


def format_time(at_s: float) -> str:
    """Return a time as it stands in the file."""
    text = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def _text(connection: sqlite3.Connection, agent: str, now_s: float) -> Iterator[bytes]:
    """Yield the file in pieces; values go in as they are."""
    yield (
        f'{{\n  "{HEAD}": {{\n    "format": {FORMAT},\n    "agent": {json.dumps(agent)},\n'
        f'    "exported_at": "{format_time(now_s)}",\n    "{EXPIRES}": {{'
    ).encode()
    separator = "\n      "
    for key, expires_at in connection.execute(_ENDS, (now_s,)):
        yield f'{separator}{encode_basestring(key)}: "{format_time(expires_at)}"'.encode()
        separator = ",\n      "
    yield b"}\n  }" if separator.startswith("\n") else b"\n    }\n  }"
    for key, value in connection.execute(_LINES, (now_s,)):
        yield f",\n  {encode_basestring(key)}: ".encode()
        yield one_line(value)
    yield b"\n}\n"


def _write_text(file: FileIO, pieces: Iterator[bytes], is_abandoned: Callable[[], bool]) -> str:
    """Write pieces and return the hash of them all."""
    content = hashlib.sha256()
    for block in _blocks(pieces):
        if is_abandoned():
            raise ExportAbandonedError
        content.update(block)
        view = memoryview(block)
        while view:
            view = view[file.write(view) :]
    return content.hexdigest()


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    block: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        block.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _WRITE_BYTES:
            yield b"".join(block)
            block, size_bytes = [], 0
    yield b"".join(block)


def _facts(path: Path) -> os.stat_result | None:
    """Return what has this name, a link itself and not what it points to; None: nothing."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None

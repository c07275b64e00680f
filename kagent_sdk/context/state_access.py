"""What a `State` works on: keys as they are in the host, or a transaction over them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from kagent_sdk.context.key_turns import KeyTurns
from kagent_sdk.context.pending import Result, Steps
from kagent_sdk.protocol.state import (
    MAX_PAGE_ITEMS,
    Answer,
    Scan,
    Transaction,
    Write,
    encode_commit,
    encode_get,
    encode_items,
    error_of,
)


class StatePort(Protocol):
    """What the state asks of the runtime."""

    @property
    def turns(self) -> KeyTurns:
        """Those of all that change keys in this worker.

        Raises:
            StateError: there is no host.
        """

    def ask(self, payload: bytes) -> Future[Answer]:
        """Send a STATE frame at once; thread-safe.

        Raises:
            StateError: there is no host, or too many requests wait for an answer.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One key as it was seen, or as it is to be. Its identity tells whether it is still so.

    Attributes:
        value: raw JSON; None: there is no such key.
        version: as the host has told it; 0 of a key that is not there, and of a change.
        ttl_s: of a change.
    """

    key: str
    value: bytes | None
    version: int = 0
    ttl_s: float | None = None


class StateAccess(Protocol):
    """Reads and writes, in `Steps`. Thread-safe."""

    def read(self, key: str) -> Steps[Entry]:
        """Return a key."""

    def page(self, prefix: str, after: str | None) -> Steps[tuple[Sequence[Entry], str | None]]:
        """Return some of the keys with a prefix, in order, and after which key to go on, if any."""

    def commit(
        self, seen: Mapping[str, Entry], scans: Iterable[Scan], writes: Collection[Entry]
    ) -> Steps[None]:
        """Make changes, all or none, if what was seen is still so.

        Raises:
            StateConflictError: it is not.
        """

    def in_turn(self, key: str, steps: Steps[Result]) -> Steps[Result]:
        """Return steps that change a key by what it was, when it is their turn."""

    def note_forgotten(self, what: str) -> None:
        """Take it that something was begun and never waited for."""


class DirectAccess:
    """The keys as they are in the host: every commit is there, and durable, when it is answered."""

    __slots__ = ("_port",)

    def __init__(self, port: StatePort) -> None:
        self._port = port

    def read(self, key: str) -> Steps[Entry]:
        """Ask for a key."""
        entries, _ = yield from self._list(encode_get(key))
        return entries[0] if entries else Entry(key, None)

    def page(self, prefix: str, after: str | None) -> Steps[tuple[Sequence[Entry], str | None]]:
        """Ask for a page."""
        entries, has_more = yield from self._list(encode_items(prefix, after, MAX_PAGE_ITEMS))
        return entries, entries[-1].key if has_more and entries else None

    def commit(
        self, seen: Mapping[str, Entry], scans: Iterable[Scan], writes: Collection[Entry]
    ) -> Steps[None]:
        """Commit a transaction.

        Raises:
            StateQuotaError: the state would grow over its quota.
            StateValueError: it is too large.
        """
        yield from self._ask(encode_commit(make_transaction(seen, scans, writes)))

    def in_turn(self, key: str, steps: Steps[Result]) -> Steps[Result]:
        """Let those of this worker change a key one after the other."""
        return self._port.turns.run(key, steps)

    def note_forgotten(self, what: str) -> None:
        """Warn, as Python does of a coroutine that was never awaited."""
        text = f"state.{what} was never awaited: write `await …`, or `….result()` in sync code"
        warnings.warn(text, RuntimeWarning, stacklevel=3)

    def _list(self, request: bytes) -> Steps[tuple[list[Entry], bool]]:
        answer = yield from self._ask(request)
        page = answer.page
        assert page is not None
        return [Entry(item.key, item.value, item.version) for item in page.items], page.has_more

    def _ask(self, request: bytes) -> Steps[Answer]:
        answer = yield self._port.ask(request)
        assert answer is not None
        if answer.error is not None:
            raise error_of(answer.error)
        return answer


def make_transaction(
    seen: Mapping[str, Entry], scans: Iterable[Scan], writes: Iterable[Entry]
) -> Transaction:
    """Return a transaction as it is sent."""
    return Transaction(
        {key: entry.version for key, entry in seen.items()},
        tuple(scans),
        tuple(Write(entry.key, entry.value, entry.ttl_s) for entry in writes),
    )

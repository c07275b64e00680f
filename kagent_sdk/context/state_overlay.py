"""A transaction in the making: what it has read, and the changes that only it sees."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock

from kagent_sdk.context.pending import Result, Steps
from kagent_sdk.context.state_access import Entry, StateAccess, make_transaction
from kagent_sdk.errors import StateConflictError, StateError, StateValueError
from kagent_sdk.protocol.state import (
    MAX_TRANSACTION_BYTES,
    MAX_TRANSACTION_KEYS,
    Scan,
    encode_transaction,
)


class Overlay:
    """Changes over a base, which does not see them before `save`; thread-safe.

    A key that was read once stays as it was. The base may be an overlay itself: then `save` hands
    the changes on to it.

    Args:
        base: what is read where nothing was changed here.
        name: who this is, for errors: ``task t-1``, for example.
    """

    __slots__ = (
        "_base",
        "_forgotten",
        "_is_ended",
        "_lock",
        "_name",
        "_reads",
        "_scans",
        "_size",
        "_writes",
    )

    def __init__(self, base: StateAccess, name: str) -> None:
        self._base = base
        self._name = name
        self._lock = Lock()
        self._reads: dict[str, Entry] = {}
        self._scans: dict[Scan, None] = {}
        self._writes: dict[str, Entry] = {}
        self._size = 0
        self._forgotten = ""
        self._is_ended = False

    def read(self, key: str) -> Steps[Entry]:
        """Return a key as this transaction has left it, or as it has seen it first."""
        self._check_open()
        entry = self._now(key)
        if entry is None:
            found = yield from self._base.read(key)
            with self._lock:
                self._check_open()
                self._check_count(1)
                # It may have been read or written meanwhile, by another job of the same task.
                entry = self._writes.get(key) or self._reads.setdefault(key, found)
        return entry

    def page(self, prefix: str, after: str | None) -> Steps[tuple[Sequence[Entry], str | None]]:
        """Return all keys at once: only then is it known that none has been added."""
        self._check_open()
        found: list[Entry] = []
        pages = 0
        position: str | None = None
        while not pages or position is not None:
            entries, position = yield from self._base.page(prefix, position)
            found += entries
            pages += 1
        with self._lock:
            self._check_open()
            self._note_scan(prefix, found, is_whole=pages == 1)
            merged = {entry.key: entry for entry in found}
            merged |= {key: entry for key, entry in self._writes.items() if key.startswith(prefix)}
        return [merged[key] for key in sorted(merged) if merged[key].value is not None], None

    def commit(
        self, seen: Mapping[str, Entry], scans: Iterable[Scan], writes: Collection[Entry]
    ) -> Steps[None]:
        """Keep changes, if what was seen is still so; scans are noted already.

        Raises:
            StateConflictError: it is not: another job of the same task came between.
            StateValueError: the transaction gets too large.
        """
        with self._lock:
            self._check_open()
            stale = tuple(key for key, entry in seen.items() if self._now(key) is not entry)
            if stale:
                raise StateConflictError(stale)
            self._check_count(sum(entry.key not in self._writes for entry in writes))
            size = self._size + sum(map(_size_of, writes))
            size -= sum(_size_of(self._writes.get(entry.key)) for entry in writes)
            _check_size(size)
            self._size = size
            self._writes.update((entry.key, entry) for entry in writes)
        yield from ()

    def in_turn(self, key: str, steps: Steps[Result]) -> Steps[Result]:
        """Return them as they are: nobody else is here but the task's own jobs."""
        return steps

    def note_forgotten(self, what: str) -> None:
        """Let the transaction fail: a change that it was to make was lost."""
        self._forgotten = what

    def save(self) -> Steps[None]:
        """End it, and commit it to the base.

        Raises:
            StateConflictError: what it has read was changed meanwhile.
            StateQuotaError: the state would grow over its quota.
            StateValueError: it is too large.
            StateError: an update was never awaited.
        """
        self._end()
        if self._writes:
            yield from self._base.commit(self._reads, self._scans, self._writes.values())

    def seal(self) -> bytes | None:
        """End it, and return the payload of its COMMIT frame; None when it changes nothing.

        Raises:
            StateValueError: it is too large.
            StateError: an update was never awaited.
        """
        self._end()
        if not self._writes:
            return None
        transaction = make_transaction(self._reads, self._scans, self._writes.values())
        return encode_transaction(transaction)

    def discard(self) -> None:
        """End it without a trace; idempotent."""
        self._is_ended = True

    def _now(self, key: str) -> Entry | None:
        return self._writes.get(key) or self._reads.get(key)

    def _note_scan(self, prefix: str, found: Sequence[Entry], *, is_whole: bool) -> None:
        self._check_count(1 if is_whole else len(found) + 1)
        versions = [entry.version for entry in found]
        self._scans[Scan(prefix, len(found), max(versions, default=0))] = None
        if not is_whole:
            # Between two pages a change of the first may hide behind a later one of the second, so
            # that count and highest version are those of no moment: each key is held to what it was.
            for entry in found:
                self._reads.setdefault(entry.key, entry)

    def _end(self) -> None:
        with self._lock:
            self._check_open()
            self._is_ended = True
        if self._forgotten:
            raise StateError(
                f"state.{self._forgotten} was never awaited in {self._name}: write `await …`, or "
                f"`….result()` in sync code"
            )

    def _check_open(self) -> None:
        if self._is_ended:
            raise StateError(f"{self._name} has ended: its state can be used no more")

    def _check_count(self, more: int) -> None:
        count = len(self._reads) + len(self._scans) + len(self._writes) + more
        if count > MAX_TRANSACTION_KEYS:
            raise StateError(
                f"{self._name} reads and writes {count} keys, over the limit of "
                f"{MAX_TRANSACTION_KEYS} for one transaction: use agent.state for what need not be "
                f"part of it"
            )


def _size_of(entry: Entry | None) -> int:
    return 0 if entry is None else len(entry.key.encode()) + len(entry.value or b"")


def _check_size(size: int) -> None:
    if size > MAX_TRANSACTION_BYTES:
        raise StateValueError(
            f"the transaction writes {size} bytes, over the limit of {MAX_TRANSACTION_BYTES}: "
            f"write less in one task or transaction"
        )

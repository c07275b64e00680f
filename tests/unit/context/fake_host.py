"""A host in memory that answers STATE frames at once, or when it is told to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kagent_sdk.context.key_turns import KeyTurns
from kagent_sdk.errors import StateConflictError, StateError, StateQuotaError
from kagent_sdk.protocol.state import (
    Answer,
    Get,
    Item,
    Items,
    Page,
    Transaction,
    decode_answer,
    decode_request,
    describe_error,
    encode_committed,
    encode_page,
    encode_refused,
)


class FakeHost:
    """Keys and versions, as the host has them, without its disk.

    Args:
        quota_bytes: over which it refuses.
        is_prompt: whether a request is answered where it is asked; else `answer` does.

    Attributes:
        commits: all transactions that were asked for, done or not.
        turns: of those that ask.
        page_items: how many items it puts into one page at most.
        before: called before each request is served: whatever comes between.
    """

    def __init__(self, quota_bytes: int = 1 << 30, *, is_prompt: bool = True) -> None:
        self.turns = KeyTurns()
        self.quota_bytes = quota_bytes
        self.commits: list[Transaction] = []
        self.page_items = 1000
        self.before: Callable[[Get | Items | Transaction], None] = lambda _: None
        self._is_prompt = is_prompt
        self._items: dict[str, Item] = {}
        self._version = 0
        self._waiting: deque[tuple[Future[Answer], bytes]] = deque()
        self._lock = threading.RLock()

    def ask(self, payload: bytes) -> Future[Answer]:
        """Take a request."""
        future: Future[Answer] = Future()
        self._waiting.append((future, payload))
        if self._is_prompt:
            self.answer()
        return future

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def answer(self, count: int = 1) -> None:
        """Answer so many of the requests that wait."""
        for _ in range(count):
            future, payload = self._waiting.popleft()
            with self._lock:
                answer = decode_answer(self.serve(payload))
            if future.set_running_or_notify_cancel():
                future.set_result(answer)

    def serve(self, payload: bytes) -> bytes:
        """Return the STATE_ANSWER to a STATE frame."""
        request = decode_request(payload)
        try:
            self.before(request)
            match request:
                case Get(key):
                    found = self._items.get(key)
                    page = Page((found,) if found else (), has_more=False)
                    return encode_page(page, self.used_bytes)
                case Items():
                    return encode_page(self._page(request), self.used_bytes)
                case Transaction():
                    return encode_committed(self.commit(request), self.used_bytes)
        except StateError as exc:
            return encode_refused(describe_error(exc), self.used_bytes)

    def commit(self, transaction: Transaction) -> int:
        """Commit a transaction, or raise as the host's store does."""
        self.commits.append(transaction)
        stale = [key for key, seen in transaction.reads.items() if self.version_of(key) != seen]
        for scan in transaction.scans:
            found = [
                item.version for key, item in self._items.items() if key.startswith(scan.prefix)
            ]
            if (len(found), max(found, default=0)) != (scan.count, scan.max_version):
                stale.append(scan.prefix)
        if stale:
            raise StateConflictError(tuple(stale))
        before = dict(self._items)
        for write in transaction.writes:
            self.put(write.key, write.value, write.ttl_s)
        if self.used_bytes > self.quota_bytes:
            error = StateQuotaError(self.used_bytes, self.quota_bytes)
            self._items = before
            raise error
        return self._version

    def put(self, key: str, value: bytes | None, ttl_s: float | None = None) -> None:
        """Change a key, as somebody else does; a life of n s ends at n s past 1970."""
        self._version += 1
        if value is None:
            self._items.pop(key, None)
        else:
            self._items[key] = Item(key, self._version, value, ttl_s)

    def version_of(self, key: str) -> int:
        """Return a key's version, 0 if there is no such key."""
        return self._items[key].version if key in self._items else 0

    def expiry_of(self, key: str) -> float | None:
        """Return when a key ends."""
        return self._items[key].expires_at

    @property
    def values(self) -> dict[str, bytes | None]:
        """What is there, as raw JSON."""
        return {key: item.value for key, item in sorted(self._items.items())}

    @property
    def used_bytes(self) -> int:
        """What keys and values take."""
        return sum(len(key) + len(item.value or b"") for key, item in self._items.items())

    def _page(self, request: Items) -> Page:
        found = [
            item
            for key, item in sorted(self._items.items())
            if key.startswith(request.prefix) and key > (request.after or "")
        ]
        limit = min(request.limit, self.page_items)
        return Page(tuple(found[:limit]), has_more=len(found) > limit)

"""The agent's state, as the author uses it: `State`.

::

    visits = await agent.state.update("visits", lambda count: count + 1, default=0)

    @agent.capability
    async def pay(account: str, amount: int, ctx: TaskContext) -> int:
        balance = await ctx.state.get(f"accounts/{account}", 0)
        await ctx.state.set(f"accounts/{account}", balance - amount)
        return balance - amount
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, iscoroutine
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from kagent_sdk.context.adapters import adapter_of
from kagent_sdk.context.pending import Pending, Steps, changing, is_in_event_loop
from kagent_sdk.context.state_access import Entry, StateAccess
from kagent_sdk.context.state_overlay import Overlay
from kagent_sdk.context.state_values import check_ttl, dump, is_same, load
from kagent_sdk.errors import StateConflictError, StateValueError
from kagent_sdk.protocol.state import check_key, check_prefix

Value = TypeVar("Value")
Default = TypeVar("Default")

MAX_TRIES = 100
"""How often a change of one key is tried again that others have come before."""

FIRST_PAUSE_S = 0.001
MAX_PAUSE_S = 0.05


def pauses_s(chance: Callable[[], float] = random.random) -> Iterator[float]:
    """Return how long to wait after each of `MAX_TRIES` tries: at random, so that two part ways."""
    longest_s = FIRST_PAUSE_S
    for _ in range(MAX_TRIES):
        yield chance() * longest_s
        longest_s = min(2 * longest_s, MAX_PAUSE_S)


class State:
    """A durable key-value memory, one for all tasks, loops and workers of an agent.

    A key is a path such as ``users/42/name``; a value is anything that pydantic can write as JSON.
    All methods may be called from any thread and event loop. ``await`` what they return in async
    code; take its ``result()`` in a sync function.

    - ``ctx.state`` of a task is that task's transaction: its changes are committed together with the
      task's result, or not at all, and reads see them. When somebody else changed meanwhile what the
      task has read, and it changes anything itself, the task runs again.
    - ``agent.state``, and ``ctx.state`` of a loop, commit every change by itself, at once; it is
      durable when it is awaited. `transaction` puts several together.

    Args:
        access: what it works on; the runtime's business.
    """

    __slots__ = ("_access",)

    def __init__(self, access: StateAccess) -> None:
        self._access = access

    @overload
    def get(
        self, key: str, default: None = None, *, model: type[Value]
    ) -> Pending[Value | None]: ...

    @overload
    def get(
        self, key: str, default: Default, *, model: type[Value]
    ) -> Pending[Value | Default]: ...

    @overload
    def get(self, key: str, default: Any = None, *, model: Any = None) -> Pending[Any]: ...

    def get(self, key: str, default: Any = None, *, model: Any = None) -> Pending[Any]:
        """Return a key's value, or ``default`` if there is no such key.

        Args:
            key: the key.
            default: returned as it is.
            model: what the value is to be: a pydantic model, or any type hint.

        Raises:
            StateKeyError: the key is none.
            StateValueError: the value does not fit the model.
            StateError: there is no host, or it cannot be asked now; here and below.
        """
        check_key(key)
        if model is not None:
            adapter_of(model)
        return Pending(self._get(key, default, model))

    def set(self, key: str, value: object, *, ttl_s: float | None = None) -> Pending[None]:
        """Set a key's value, whatever it was. In a task a plain call does it, without ``await``.

        Args:
            key: the key.
            value: a model, or anything that JSON can hold.
            ttl_s: after so many seconds from the commit on there is no such key; None: it stays,
                also if it was to go before.

        Raises:
            StateKeyError: the key is none.
            StateValueError: the value is no JSON or too large, or the transaction gets too large.
            StateQuotaError: the state would grow over ``state.quota_bytes``; in a task it fails
                with ``state_quota_exceeded`` instead.
        """
        return self._write(
            f"set({key!r})", Entry(check_key(key), dump(key, value), 0, check_ttl(ttl_s))
        )

    def delete(self, key: str) -> Pending[None]:
        """Delete a key; nothing happens if there is no such key. Otherwise as `set`."""
        return self._write(f"delete({key!r})", Entry(check_key(key), None))

    def update(
        self,
        key: str,
        function: Callable[[Any], Any],
        default: Any = None,
        *,
        model: Any = None,
        ttl_s: float | None = None,
    ) -> Pending[Any]:
        """Change a key's value by a function, and return the new one; no change in between is lost.

        Outside a task the function is called again, after a moment, when somebody else was faster.

        Args:
            key: the key.
            function: a plain, quick function that returns the new value: never None, for that is
                what one returns that only changes what it was given. Others that change the key wait
                for it, so it must not wait for the state itself.
            default: given to the function, as a copy, if there is no such key.
            model: what the function is given, as in `get`.
            ttl_s: as in `set`.

        Raises:
            StateKeyError: the key is none.
            StateValueError: the value does not fit the model, or the new one is no JSON, too large
                or None.
            StateQuotaError: the state would grow over ``state.quota_bytes``; as in `set`.
            StateConflictError: somebody else was faster a hundred times (`MAX_TRIES`).
        """
        if model is not None:
            adapter_of(model)
        change = _Change(check_key(key), function, default, model, check_ttl(ttl_s))
        return self._change(f"update({key!r})", key, self._update(change))

    def compare_and_set(
        self, key: str, expected: object, value: object, *, ttl_s: float | None = None
    ) -> Pending[bool]:
        """Set a key's value if it is what was expected, and return whether it was.

        Args:
            key: the key.
            expected: the value that it must have as JSON; None: there must be no such key.
            value: as in `set`.
            ttl_s: as in `set`.

        Raises:
            StateKeyError: the key is none.
            StateValueError: one of the values is no JSON or too large.
            StateQuotaError: the state would grow over ``state.quota_bytes``; as in `set`.
            StateConflictError: the key was changed, to the same value, a hundred times (`MAX_TRIES`).
        """
        entry = Entry(check_key(key), dump(key, value), 0, check_ttl(ttl_s))
        wanted = None if expected is None else dump(key, expected)
        what = f"compare_and_set({key!r})"
        return self._change(what, key, self._compare_and_set(entry, wanted))

    @overload
    def items(self, prefix: str = "", *, model: type[Value]) -> PendingItems[Value]: ...

    @overload
    def items(self, prefix: str = "", *, model: Any = None) -> PendingItems[Any]: ...

    def items(self, prefix: str = "", *, model: Any = None) -> PendingItems[Any]:
        """Return keys and values, in order of the keys.

        ``await`` it for a list of all; ``async for key, value in state.items("users/")`` gets them in
        pages, as they are when each page is asked for. In a transaction they are gotten at once.

        Args:
            prefix: what the keys begin with, as text: ``users/4`` begins ``users/42`` too.
            model: what the values are to be, as in `get`.

        Raises:
            StateKeyError: no key can begin so.
            StateValueError: a value does not fit the model.
        """
        check_prefix(prefix)
        if model is not None:
            adapter_of(model)
        return PendingItems(self._access, prefix, model)

    def transaction(self) -> StateTransaction:
        """Return a transaction, for ``async with``, or ``with`` in a sync function.

        ::

            async with ctx.state.transaction() as state:
                balance = await state.get("balance", 0)
                await state.set("balance", balance - 1)

        At the end of the block its changes are committed, all or none, unless it raises. In a task
        they join the task's own transaction, which is committed with its result.

        Raises (at the end of the block):
            StateConflictError: somebody else changed meanwhile what the block has read: do it again.
            StateQuotaError: the state would grow over ``state.quota_bytes``.
        """
        return StateTransaction(self._access)

    def _write(self, what: str, entry: Entry) -> Pending[None]:
        forgotten = partial(self._access.note_forgotten, what)
        return Pending(self._access.commit({}, (), (entry,)), forgotten)

    def _change(self, what: str, key: str, steps: Steps[Value]) -> Pending[Value]:
        forgotten = partial(self._access.note_forgotten, what)
        return Pending(self._access.in_turn(key, steps), forgotten, at_once=False)

    def _get(self, key: str, default: Any, model: Any) -> Steps[Any]:
        entry = yield from self._access.read(key)
        return default if entry.value is None else load(key, entry.value, model)

    def _update(self, change: _Change) -> Steps[Any]:
        for pause_s in pauses_s():
            entry = yield from self._access.read(change.key)
            value, new = change.of(entry)
            if (yield from self._replace(entry, new)):
                return value
            yield pause_s
        raise StateConflictError((change.key,))

    def _compare_and_set(self, new: Entry, wanted: bytes | None) -> Steps[bool]:
        for pause_s in pauses_s():
            entry = yield from self._access.read(new.key)
            if not _is(entry.value, wanted):
                return False
            if (yield from self._replace(entry, new)):
                return True
            yield pause_s
        raise StateConflictError((new.key,))

    def _replace(self, seen: Entry, new: Entry) -> Steps[bool]:
        """Write a key, if it still is as it was seen."""
        try:
            yield from self._access.commit({seen.key: seen}, (), (new,))
        except StateConflictError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Change:
    """What `State.update` is to do."""

    key: str
    function: Callable[[Any], Any]
    default: Any
    model: Any
    ttl_s: float | None

    def of(self, entry: Entry) -> tuple[Any, Entry]:
        """Return the new value, as it is and as it is to be written."""
        # Made anew for each try: the function may change what it is given.
        old = (
            deepcopy(self.default)
            if entry.value is None
            else load(self.key, entry.value, self.model)
        )
        with changing(self.key):
            value = self.function(old)
        if isawaitable(value) or value is None:
            what = "None" if value is None else "an awaitable"
            if iscoroutine(value):
                value.close()
            raise StateValueError(
                f"the function of update({self.key!r}) returned {what}: write a plain function that "
                f"returns the new value"
            )
        return value, Entry(self.key, dump(self.key, value), 0, self.ttl_s)


class PendingItems(Generic[Value]):
    """Keys and values: await a list, iterate in pages, or take the list as `result` in a thread."""

    __slots__ = ("_access", "_model", "_prefix")

    def __init__(self, access: StateAccess, prefix: str, model: Any) -> None:
        self._access = access
        self._prefix = prefix
        self._model = model

    def __await__(self) -> Generator[Any, None, list[tuple[str, Value]]]:
        """Return all of them; raises as `State.items`."""
        return Pending(self._all()).__await__()

    def result(self, timeout_s: float | None = None) -> list[tuple[str, Value]]:
        """Block this thread until all of them are there; see `Pending.result`."""
        return Pending(self._all()).result(timeout_s)

    async def __aiter__(self) -> AsyncIterator[tuple[str, Value]]:
        """Iterate over them; raises as `State.items`."""
        after: str | None = None
        while True:
            entries, after = await Pending(self._access.page(self._prefix, after))
            for entry in entries:
                yield self._load(entry)
            if after is None:
                return

    def _all(self) -> Steps[list[tuple[str, Value]]]:
        items: list[tuple[str, Value]] = []
        after: str | None = None
        while True:
            entries, after = yield from self._access.page(self._prefix, after)
            items += map(self._load, entries)
            if after is None:
                return items

    def _load(self, entry: Entry) -> tuple[str, Value]:
        assert entry.value is not None
        return entry.key, load(entry.key, entry.value, self._model)


class StateTransaction:
    """Several reads and changes that belong together; see `State.transaction`."""

    __slots__ = ("_access", "_overlay")

    def __init__(self, access: StateAccess) -> None:
        self._access = access
        self._overlay: Overlay | None = None

    async def __aenter__(self) -> State:
        """Begin."""
        return self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or forget everything when the block has raised."""
        saving = self._close(has_failed=kind is not None)
        if saving is not None:
            await saving

    def __enter__(self) -> State:
        """Begin, in a sync function."""
        if is_in_event_loop():
            raise RuntimeError("it would block the event loop: write `async with` in async code")
        return self._open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or forget everything when the block has raised."""
        saving = self._close(has_failed=kind is not None)
        if saving is not None:
            saving.result()

    def _open(self) -> State:
        if self._overlay is not None:
            raise RuntimeError("this transaction has begun already: make another one")
        self._overlay = Overlay(self._access, "the transaction")
        return State(self._overlay)

    def _close(self, *, has_failed: bool) -> Pending[None] | None:
        overlay, self._overlay = self._overlay, None
        assert overlay is not None
        if has_failed:
            overlay.discard()
            return None
        return Pending(overlay.save())


def _is(raw: bytes | None, wanted: bytes | None) -> bool:
    if raw is None or wanted is None:
        return raw is wanted
    return is_same(raw, wanted)

"""The state as hooks and loops have it: each call by itself, against a host in memory."""

# A change that is never awaited is one of the cases.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

import kagent_sdk.context.state
from kagent_sdk.context.state import MAX_PAUSE_S, MAX_TRIES, State, pauses_s
from kagent_sdk.context.state_access import DirectAccess
from kagent_sdk.errors import (
    StateConflictError,
    StateError,
    StateKeyError,
    StateQuotaError,
    StateValueError,
)
from kagent_sdk.protocol.state import Get, Items, Transaction, Write
from tests.unit.context.fake_host import FakeHost


class Account(BaseModel):
    """A model."""

    owner: str
    balance: int = 0


def make_state(host: FakeHost | None = None) -> tuple[State, FakeHost]:
    """Return a state on a host."""
    host = host or FakeHost()
    return State(DirectAccess(host)), host


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


async def test_a_value_is_set_read_and_deleted() -> None:
    """The simplest use."""
    state, host = make_state()

    assert await state.get("a") is None
    assert await state.get("a", 7) == 7
    await state.set("a", {"n": 1})
    assert await state.get("a") == {"n": 1}
    assert host.values == {"a": b'{"n":1}'}
    await state.delete("a")
    assert host.values == {}


async def test_a_model_is_read_as_what_it_was() -> None:
    """And a default is returned as it is."""
    state, _ = make_state()
    nobody = Account(owner="nobody")
    await state.set("a", Account(owner="Ada", balance=3))

    found: Account = await state.get("a", nobody, model=Account)
    assert found == Account(owner="Ada", balance=3)
    assert await state.get("b", nobody, model=Account) is nobody
    with pytest.raises(StateValueError, match="the value of 'a' does not fit int"):
        await state.get("a", model=int)


async def test_a_change_asks_for_nothing_and_overwrites() -> None:
    """It depends on nothing that was read."""
    state, host = make_state()
    await state.set("a", 1, ttl_s=60)
    await state.delete("b")

    assert host.commits == [
        Transaction({}, (), (Write("a", b"1", 60.0),)),
        Transaction({}, (), (Write("b", None),)),
    ]
    assert host.expiry_of("a") == 60.0
    await state.set("a", 1)
    assert host.expiry_of("a") is None


def test_sync_code_takes_results() -> None:
    """The same methods, in a thread."""
    state, _ = make_state()
    state.set("a/1", 1).result()
    state.set("a/2", 2).result()

    assert state.get("a/1").result() == 1
    assert state.update("a/1", increment).result() == 2
    assert state.compare_and_set("a/1", 2, 5).result() is True
    assert state.items("a/").result() == [("a/1", 5), ("a/2", 2)]
    with state.transaction() as inner:
        inner.set("a/3", inner.get("a/1").result())
    assert state.get("a/3").result() == 5


@pytest.mark.parametrize("key", ["", "a/", "$a", 1])
def test_a_key_that_is_none_is_refused_at_once(key: Any) -> None:
    """Also by a call that nobody awaits."""
    state, host = make_state()

    for call in (
        lambda: state.get(key),
        lambda: state.set(key, 1),
        lambda: state.delete(key),
        lambda: state.update(key, increment),
        lambda: state.compare_and_set(key, 1, 2),
    ):
        with pytest.raises(StateKeyError):
            call()
    with pytest.raises(StateKeyError):
        state.items("\n")
    assert host.commits == []


def test_a_value_that_is_none_is_refused_at_once() -> None:
    """As above."""
    state, host = make_state()

    for call in (
        lambda: state.set("k", math.nan),
        lambda: state.set("k", 1, ttl_s=0),
        lambda: state.update("k", increment, ttl_s=-1),
        lambda: state.compare_and_set("k", object(), 1),
        lambda: state.compare_and_set("k", 1, object()),
    ):
        with pytest.raises(StateValueError):
            call()
    assert host.commits == []


async def test_an_update_is_made_on_what_was_read() -> None:
    """By version, so that nothing in between is lost."""
    state, host = make_state()
    assert await state.update("n", increment, default=0) == 1
    assert await state.update("n", increment, ttl_s=5) == 2

    assert host.commits == [
        Transaction({"n": 0}, (), (Write("n", b"1"),)),
        Transaction({"n": 1}, (), (Write("n", b"2", 5.0),)),
    ]


async def test_an_update_takes_and_returns_models() -> None:
    """As the author has declared them."""
    state, _ = make_state()

    def earn(account: Account) -> Account:
        account.balance += 5
        return account

    for balance in (5, 10):
        account = await state.update("a", earn, Account(owner="Ada"), model=Account)
        assert account == Account(owner="Ada", balance=balance)


async def test_an_update_that_is_late_is_made_again_on_what_is_there() -> None:
    """The default is as it was, though the function has changed what it was given."""
    state, host = make_state()
    interruptions = iter(["x", "y"])

    def interrupt(request: Get | Items | Transaction) -> None:
        if isinstance(request, Transaction) and (word := next(interruptions, None)):
            host.put("words", f'["{word}"]'.encode())
            if word == "y":
                host.put("words", None)

    host.before = interrupt
    default: list[str] = []

    def add(words: list[str]) -> list[str]:
        words.append("mine")
        return words

    assert await state.update("words", add, default) == ["mine"]
    assert default == []
    assert len(host.commits) == 3


async def test_an_update_gives_up_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that others change all the time, or a host that is out of its mind."""
    state, host = make_state()
    host.before = lambda request: host.put("n", b"1") if isinstance(request, Transaction) else None
    monkeypatch.setattr(kagent_sdk.context.state, "MAX_PAUSE_S", 0.0)

    with pytest.raises(StateConflictError) as caught:
        await state.update("n", increment, default=0)
    assert caught.value.keys == ("n",)
    assert len(host.commits) == MAX_TRIES


def test_pauses_grow_and_are_left_to_chance() -> None:
    """Two that collide must not collide for ever."""
    longest = list(pauses_s(lambda: 1.0))

    assert len(longest) == MAX_TRIES
    assert longest[:3] == [0.001, 0.002, 0.004]
    assert max(longest) == MAX_PAUSE_S
    assert set(pauses_s(lambda: 0.0)) == {0.0}


@pytest.mark.parametrize("function", [lambda words: words.append(1), lambda _: asyncio.sleep(0)])
async def test_an_update_must_return_the_new_value(function: Any) -> None:
    """`list.append` returns None: written down, that would be the end of the list."""
    state, host = make_state()

    with pytest.raises(StateValueError, match="write a plain function that returns the new value"):
        await state.update("words", function, default=[])
    assert host.commits == []


async def test_compare_and_set_needs_what_was_expected() -> None:
    """A lock, a lease, a first one."""
    state, host = make_state()

    assert await state.compare_and_set("lock", None, {"by": "me", "n": 1}, ttl_s=9) is True
    assert await state.compare_and_set("lock", None, {"by": "you"}) is False
    assert await state.compare_and_set("lock", {"by": "you"}, 1) is False
    assert host.expiry_of("lock") == 9.0
    assert await state.compare_and_set("lock", {"n": 1, "by": "me"}, "free") is True
    assert host.values == {"lock": b'"free"'}
    assert await state.compare_and_set("gone", "free", 1) is False


async def test_compare_and_set_goes_by_the_value_not_by_the_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody may have set the same once more."""
    state, host = make_state()
    host.put("a", b"1")
    again = iter([True, True])

    def interrupt(request: Get | Items | Transaction) -> None:
        if isinstance(request, Transaction) and next(again, False):
            host.put("a", b"1")

    host.before = interrupt

    assert await state.compare_and_set("a", 1, 2) is True
    assert len(host.commits) == 3
    host.before = lambda request: host.put("a", b"1") if isinstance(request, Transaction) else None
    host.put("a", b"1")
    monkeypatch.setattr(kagent_sdk.context.state, "MAX_PAUSE_S", 0.0)
    with pytest.raises(StateConflictError):
        await state.compare_and_set("a", 1, 2)


async def test_items_come_in_order_and_in_pages() -> None:
    """However many there are."""
    state, host = make_state()
    host.page_items = 2
    for name in ("b/2", "a/1", "b/1", "b/3", "c", "b/4", "b"):
        host.put(name, b"1")

    expected = [("b/1", 1), ("b/2", 1), ("b/3", 1), ("b/4", 1)]
    assert await state.items("b/") == expected
    assert [item async for item in state.items("b/")] == expected
    assert [key for key, _ in await state.items()] == ["a/1", "b", *dict(expected), "c"]
    assert await state.items("x") == []
    assert [item async for item in state.items("x")] == []


async def test_items_are_what_they_are_asked_for_as() -> None:
    """One that does not fit is named."""
    state, host = make_state()
    host.put("a/1", b'{"owner": "Ada"}')

    assert await state.items("a/", model=Account) == [("a/1", Account(owner="Ada"))]
    host.put("a/2", b"{}")
    with pytest.raises(StateValueError, match=r"the value of 'a/2' does not fit Account: owner"):
        await state.items("a/", model=Account)


async def test_errors_of_the_host_are_raised() -> None:
    """The quota, for one."""
    state, host = make_state(FakeHost(quota_bytes=5))

    with pytest.raises(StateQuotaError) as caught:
        await state.set("a", "long text")
    assert (caught.value.used_bytes, caught.value.quota_bytes) == (12, 5)
    host.before = _refuse
    for pending in (state.get("a"), state.items()):
        with pytest.raises(StateError, match="the disk is full"):
            await pending


def _refuse(request: object) -> None:
    del request
    raise StateError("the disk is full")


async def test_a_change_that_nobody_awaits_is_told() -> None:
    """Whether it is made is unknown: Python warns of a coroutine in the same way."""
    state, _ = make_state(FakeHost(is_prompt=False))

    for call, name in (
        (lambda: state.set("k", 1), "set"),
        (lambda: state.delete("k"), "delete"),
        (lambda: state.update("k", increment), "update"),
        (lambda: state.compare_and_set("k", 1, 2), "compare_and_set"),
    ):
        with pytest.warns(RuntimeWarning, match=rf"state.{name}\('k'\) was never awaited"):
            call()
    state.get("k")


def test_threads_share_a_state() -> None:
    """Each update counts."""
    state, host = make_state()

    def work(_: int) -> None:
        for _ in range(20):
            state.update("n", increment, default=0).result()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert host.values == {"n": b"160"}


async def test_jobs_share_a_state() -> None:
    """The same, when answers come later."""
    host = FakeHost(is_prompt=False)
    state, _ = make_state(host)

    async def work() -> None:
        await state.update("n", increment, default=0)

    jobs = [asyncio.ensure_future(work()) for _ in range(30)]
    while not all(job.done() for job in jobs):
        host.answer(host.waiting)
        await asyncio.sleep(0)

    assert host.values == {"n": b"30"}

"""referrers TYPE|ID."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import click
import pytest

from kagent_sdk.debug.probes import chains
from tests.unit.debug.sessions import make_console

HERE = __name__


class Wanted:
    """What is looked for."""


class Holder:
    """Holds in ways of its own, none of which may be asked."""

    __slots__ = ("part",)

    def __init__(self, part: object) -> None:
        self.part = part

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


KEPT: dict[str, object] = {}


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Hide what pytest holds; forget what a test has kept."""
    gc.freeze()
    yield
    KEPT.clear()
    gc.unfreeze()


def test_the_chain_is_readable_and_no_code_of_the_authors_runs() -> None:
    """From the module's variable, by key, index and slot."""
    KEPT["x"] = [Holder((0, Wanted()))]
    shown = make_console().run("referrers", "Wanted")

    assert f"{HERE}.Wanted (tests/unit/debug/commands/test_referrers.py:" in shown
    assert [line.strip() for line in shown.splitlines()[2:]] == [
        "1 by",
        f"module {HERE}.KEPT",
        "→ dict['x']",
        "→ list[0]",
        f"→ {HERE}.Holder.part",
        "→ tuple[1]",
        f"→ {HERE}.Wanted",
    ]


def test_one_object_is_found_by_its_number_and_let_go() -> None:
    """After the command nothing of it is left that keeps the object alive."""
    thing = Wanted()
    KEPT["hunter2"] = {"thing": thing}
    watch = weakref.ref(thing)
    found = make_console().read("referrers", hex(id(thing)))
    assert found["target"] == f"{HERE}.Wanted {id(thing)}"
    assert found["chains"][0]["steps"] == [
        f"module {HERE}.KEPT",
        "dict['[redacted]']",
        "dict['thing']",
        f"{HERE}.Wanted",
    ]
    del thing, found
    KEPT.clear()

    assert watch() is None


async def test_a_local_variable_of_a_job_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that waits for ever keeps what it holds."""
    # Modules come first, and those of all tests lead to more than can be walked in the time.
    monkeypatch.setattr(chains, "_is_module", lambda _thing: False)
    gate = asyncio.Event()

    async def work() -> None:
        mine = Wanted()
        await gate.wait()
        del mine

    job = asyncio.create_task(work(), name="run 7")
    await asyncio.sleep(0)
    shown = await make_console().run_beside("referrers", "Wanted")
    gate.set()
    await job

    lines = [line.strip() for line in shown.splitlines()]
    assert "job run 7" in lines
    assert f"→ its local mine = {HERE}.Wanted" in lines
    assert any(line.startswith("→ coroutine at ") and "work (tests/unit" in line for line in lines)


def test_what_the_collector_does_not_know_is_found_too() -> None:
    """A buffer that is too large is often a bytearray."""
    KEPT["buffers"] = [bytearray(10)]
    found = make_console().read("referrers", "bytearray")

    assert [f"module {HERE}.KEPT", "dict['buffers']", "list[0]", "bytearray"] in [
        chain["steps"] for chain in found["chains"]
    ]


def test_an_unknown_type_names_the_nearest() -> None:
    """A slip of the finger is the likeliest cause."""
    KEPT["x"] = Wanted()

    with pytest.raises(click.ClickException, match=rf"did you mean {HERE}\.Wanted"):
        make_console().run("referrers", "Wantd")
    with pytest.raises(click.ClickException, match="no object has the id 1,"):
        make_console().run("referrers", "1")


def test_what_the_time_did_not_suffice_for_is_said() -> None:
    """That nothing leads to an object must not be said of what was not looked for."""
    thing = Wanted()
    console = make_console()
    console.is_over = lambda: True
    KEPT.update({str(number): [number] for number in range(5000)}, last=thing)
    shown = console.run("referrers", "Wanted")

    assert "Wanted (tests/unit" in shown
    assert ": at least " in shown
    assert "cut: ended by the client" in shown
    assert "reached from nowhere" not in shown

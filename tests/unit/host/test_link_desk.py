"""What the link asks of its host is answered without waiting for anything but room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.admission import Refusal
from kagent_sdk.host.health import Health, Reason
from kagent_sdk.host.lifecycle import Lifecycle
from kagent_sdk.host.link_desk import LinkDesk
from kagent_sdk.host.link_view import LinkView, Presence
from kagent_sdk.link.port import OfferRefusedError
from kagent_sdk.protocol.link import Held, Offer
from kagent_sdk.protocol.manifest import CapabilityManifest
from tests.unit.host.links import ECHO, OLD, LinkBench, link_bench

INSTANCE = "instance-0123456789"
OFFER = Offer("t1", OLD, "echo", b"{}", timeout_s=5, hops=1)


@dataclass
class DeskBench(LinkBench):
    """The desk, and what it looks at.

    Attributes:
        settings: as a reload would change them.
        tokens: the last one is the vault's.
    """

    desk: LinkDesk
    settings: list[AgentConfig]
    tokens: list[str]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DeskBench]:
    """Give a desk of an engine with a worker."""
    async with link_bench(tmp_path) as made:
        settings = [AgentConfig(name="ada")]
        monitor: Any = SimpleNamespace(
            cgroup=None, processes={}, memory=SimpleNamespace(use=SimpleNamespace(used_bytes=7))
        )
        pump: Any = SimpleNamespace(log=lambda *_values, **_more: None)
        health = Health(live=True, live_detail="", ready=False, reason=Reason.FULL, detail="x")
        tokens = ["one"]
        desk = LinkDesk(
            LinkView(
                lambda: settings[-1],
                made.engine,
                Lifecycle(1.0),
                lambda: health,
                monitor,
                list,
            ),
            Presence(INSTANCE, "http://a.example", "call-token"),
            intake=made.intake,
            box=made.box,
            find_token=lambda: tokens[-1],
            pump=pump,
        )
        parts = {name: getattr(made, name) for name in LinkBench.__dataclass_fields__}
        yield DeskBench(**parts, desk=desk, settings=settings, tokens=tokens)
        await desk.aclose()


async def test_the_registration_says_who_the_agent_is(bench: DeskBench) -> None:
    """The orchestrator knows nothing else of it."""
    await bench.desk.take(OFFER)
    registration = bench.desk.registration()

    assert (registration.agent, registration.instance) == ("ada", INSTANCE)
    assert (registration.url, registration.token) == ("http://a.example", "call-token")
    assert [one.name for one in registration.capabilities] == ["echo", "safe", "tail"]
    assert registration.tasks == (Held(task="t1", lease=OLD),)
    assert (registration.status.ready, registration.status.reason) == (False, "full")
    assert (registration.status.working, registration.status.memory_used_bytes) == (1, 7)
    assert "call-token" not in repr(registration)
    assert "call-token" not in repr(Presence(INSTANCE, "http://a.example", "call-token"))
    assert bench.desk.heartbeat().tasks == registration.tasks


async def test_room_is_waited_for_until_a_task_ends(bench: DeskBench) -> None:
    """A task that is fetched too early waits here, while another agent is idle."""
    async with asyncio.timeout(5):
        await bench.desk.wait_for_room()
    one = await bench.take("one")
    await bench.take("two")
    waiting = asyncio.create_task(bench.desk.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.complete(one)
    async with asyncio.timeout(5):
        await waiting


async def test_an_agent_that_takes_nothing_has_no_room(bench: DeskBench) -> None:
    """It is short of memory, or drains; the word of its end comes with the watchdog's look."""
    bench.engine.gate = Refusal.MEMORY
    waiting = asyncio.create_task(bench.desk.wait_for_room())
    await asyncio.sleep(0)
    bench.desk.note_change()
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.engine.gate = None
    bench.desk.note_change()
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize(
    ("offer", "code", "is_retryable"),
    [
        (Offer("t1", OLD, "nothing", b"{}"), "unknown_capability", False),
        (Offer("taken", OLD, "echo", b"[1]"), "id_conflict", False),
        (Offer("t1", OLD, "echo", b"{}", hops=17), "too_many_hops", False),
    ],
)
async def test_an_offer_that_will_never_be_taken_says_so(
    bench: DeskBench, offer: Offer, code: str, is_retryable: bool
) -> None:
    """Else it would be offered for ever."""
    await bench.take("taken")
    with pytest.raises(OfferRefusedError) as caught:
        await bench.desk.take(offer)

    assert (caught.value.failure.code, caught.value.failure.retryable) == (code, is_retryable)


async def test_an_offer_that_is_not_taken_now_says_when(bench: DeskBench) -> None:
    """It may be offered elsewhere meanwhile."""
    bench.engine.gate = Refusal.DRAINING
    with pytest.raises(OfferRefusedError) as caught:
        await bench.desk.take(OFFER)

    assert caught.value.failure.retryable
    assert caught.value.retry_after_s == 5


async def test_a_journal_that_is_closed_takes_no_offer(bench: DeskBench) -> None:
    """What is not on disk was not taken."""
    await bench.storage.aclose()
    with pytest.raises(OfferRefusedError) as caught:
        await bench.desk.take(OFFER)

    assert caught.value.failure.code == "journal_unavailable"


async def test_what_changes_the_registration_is_noticed(bench: DeskBench) -> None:
    """Other capabilities after a reload, labels, and a rotated token; and nothing else."""
    desk, changed = bench.desk, bench.desk.changed
    desk.note_change()
    assert not changed.is_set()
    bench.engine.declare(
        {"echo": ECHO, "more": CapabilityManifest(name="more", input_schema={}, output_schema={})}
    )
    desk.note_change()
    seen = [changed.is_set()]
    changed.clear()
    bench.tokens.append("two")
    desk.note_change()
    seen.append(changed.is_set())
    changed.clear()
    labeled = {"name": "ada", "orchestrator": {"labels": {"a": "b"}}}
    bench.settings.append(AgentConfig.model_validate(labeled))
    desk.note_change()
    seen.append(changed.is_set())

    assert seen == [True, True, True]
    assert desk.token() == "two"
    assert desk.registration().labels == {"a": "b"}


async def test_a_lost_task_tells_nothing_even_when_its_end_is_on_the_way(
    bench: DeskBench,
) -> None:
    """The word of the loss and the end cross."""
    task = await bench.take()
    bench.complete(task)
    bench.desk.lose(Held(task="t1", lease=OLD))
    await task.wait()
    await bench.desk.aclose()

    assert (await bench.reports(), bench.desk.heartbeat().tasks) == ([], ())

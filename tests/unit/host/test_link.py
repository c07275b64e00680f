"""Whatever the link does, the agent goes on; and a shutdown does not wait for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host import link as host_link
from kagent_sdk.host.lifecycle import Lifecycle, LifecycleState
from kagent_sdk.host.link import HostLink, LinkSources, reachable_url
from kagent_sdk.link.port import LinkHost, LinkStatus
from kagent_sdk.link.settings import LinkSettings
from tests.unit.host.links import link_bench


class FakeLink:
    """A link that does what a test wants.

    Attributes:
        calls: what was asked of it, in order.
        faults: raised by `run`, one each time; then it runs until it is cancelled.
        hangs: `close` never returns.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: list[Exception] = []
        self.hangs = False
        self.status = LinkStatus("up", 1.0)
        self.running = asyncio.Event()

    async def run(self) -> None:
        """Fail, or run."""
        self.calls.append("run")
        if self.faults:
            raise self.faults.pop(0)
        self.running.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take note."""
        self.calls.append("drain")

    async def close(self, within_s: float) -> None:
        """Take note, and hang if so."""
        self.calls.append("close")
        if self.hangs:
            await asyncio.Event().wait()

    async def call(self, *_values: object) -> bytes:
        """Do nothing."""
        return b""


class Pump:
    """Keeps the events that are logged."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def log(self, _level: str, event: str, **_values: object) -> None:
        """Keep one."""
        self.events.append(event)

    log_exception: Any = lambda self, event, _error: self.events.append(event)


def make_folder(parent: Path, name: str) -> Path:
    """Make a folder for an agent."""
    folder = parent / name
    folder.mkdir()
    return folder


@asynccontextmanager
async def linked(folder: Path, link: FakeLink, **orchestrator: Any) -> AsyncIterator[Any]:
    """Give a host's end of a link, not yet running, with what it logs and its life."""
    config = AgentConfig.model_validate(
        {"orchestrator": {"url": "http://127.0.0.1:9", "delivery": "pull", **orchestrator}}
    )
    async with link_bench(folder) as bench:
        lifecycle, pump, opened = Lifecycle(1.0), Pump(), asyncio.Event()
        opened.set()
        anything: Any = SimpleNamespace(
            engine=bench.engine,
            journal=bench.journal,
            storage=bench.storage,
            opened=opened,
            link_token=None,
            guard=lambda *_values: None,
            pool=SimpleNamespace(config=config, places=[]),
            own_health=None,
        )
        pumped: Any = pump
        sources = LinkSources(
            folder, anything, anything, pumped, lifecycle, anything, anything, anything
        )

        def build(_settings: LinkSettings, _host: LinkHost) -> FakeLink:
            return link

        host = HostLink(sources, build)
        yield SimpleNamespace(host=host, pump=pump, lifecycle=lifecycle)
        await host.aclose(0.01)


@asynccontextmanager
async def running(bench: Any, link: FakeLink) -> AsyncIterator[None]:
    """Run it, until the link does."""
    job = asyncio.create_task(bench.host.run())
    bench.lifecycle.enter(LifecycleState.READY, 2.0)
    bench.host.note_change()
    async with asyncio.timeout(10):
        await link.running.wait()
    yield
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


async def test_a_link_begins_when_the_agent_serves(tmp_path: Path) -> None:
    """Before that it has nothing to register."""
    link = FakeLink()
    async with linked(tmp_path, link) as bench:
        job = asyncio.create_task(bench.host.run())
        bench.host.note_change()
        await asyncio.sleep(0)
        assert bench.host.current() is None
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        async with running(bench, link):
            assert bench.host.current() is link
            assert bench.host.reports is not None


async def test_a_link_that_breaks_is_logged_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours in it is no end of the agent."""
    monkeypatch.setattr(host_link, "RESTART_S", 0)
    link = FakeLink()
    link.faults = [ValueError("bug"), RuntimeError("bug")]
    async with linked(tmp_path, link) as bench, running(bench, link):
        assert link.calls == ["run"] * 3
        assert bench.pump.events == ["link_broke"] * 2


async def test_a_link_that_hangs_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    """Its orchestrator is dead."""
    link = FakeLink()
    link.hangs = True
    async with linked(tmp_path, link) as bench, running(bench, link):
        bench.host.drain()
        bench.host.drain()
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await bench.host.finish(0.01)
            await bench.host.aclose(0.01)

    assert link.calls == ["run", "drain", "close"]
    assert bench.pump.events == ["link_cut_off"]


async def test_a_link_that_is_required_keeps_the_agent_unready_while_it_is_down(
    tmp_path: Path,
) -> None:
    """And only then."""
    link = FakeLink()
    async with linked(tmp_path, link, required=True) as bench:
        assert "yet" in bench.host.find_fault()
        async with running(bench, link):
            faults = [bench.host.find_fault()]
            link.status.state, link.status.last_error = "down", "no connection"
            faults.append(bench.host.find_fault())

    assert faults == ["", "no link to the orchestrator: no connection"]


async def test_only_a_host_that_is_pushed_to_has_a_token_for_that(tmp_path: Path) -> None:
    """Each start has another one, and none is needed for the rest."""
    async with linked(make_folder(tmp_path, "a"), FakeLink(), delivery="push") as pushed:
        tokens = {pushed.host.call_token, HostLink(pushed.host._sources).call_token}
    async with linked(make_folder(tmp_path, "b"), FakeLink()) as pulling:
        assert pulling.host.call_token is None

    assert len(tokens) == 2
    assert all(token and len(token) >= 40 for token in tokens)


def test_an_agent_that_listens_everywhere_gives_its_name_for_want_of_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The orchestrator's own name is not known yet, as when both are started together."""

    def fail(*_values: object, **_more: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket, "gethostname", lambda: "box")

    assert reachable_url("http://10.1.2.3:80", "http://o.example") == "http://10.1.2.3:80"
    assert reachable_url("http://0.0.0.0:81", "http://o.example:9") == "http://box:81"
    assert reachable_url("https://[::]:81", "http://o.example:9") == "https://box:81"

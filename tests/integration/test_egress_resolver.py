"""Names are looked up by the system, in threads that hold nobody up."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from kagent_sdk.sandbox.egress import resolver
from kagent_sdk.sandbox.egress.resolver import MAX_LOOKUPS, ThreadResolver


async def test_a_name_of_the_system_is_found() -> None:
    """As every program of the host finds it; each address once."""
    found = await ThreadResolver()("localhost", 443)

    assert "127.0.0.1" in found
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example"])
async def test_a_name_that_is_none_is_an_error(name: str) -> None:
    """Whatever the C library or Python calls it."""
    with pytest.raises(OSError):  # noqa: PT011 - the messages are the system's
        await ThreadResolver()(name, 443)


async def test_lookups_that_hang_keep_their_places_and_nobody_elses_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name server that is down must not take one thread more for each request."""
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    resolve = ThreadResolver()
    before = threading.active_count()
    jobs = [asyncio.create_task(resolve("a.example", 443)) for _ in range(MAX_LOOKUPS + 5)]
    await asyncio.wait(jobs, timeout=0)
    for job in jobs[:3]:
        job.cancel()
    await asyncio.wait(jobs[:3])
    count = threading.active_count() - before
    answered.set()
    found = await asyncio.gather(*jobs[3:])

    assert count <= MAX_LOOKUPS
    assert found == [[]] * (MAX_LOOKUPS + 2)


async def test_without_a_thread_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the place is free again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolve = ThreadResolver()
    with monkeypatch.context() as patch:
        patch.setattr(resolver.threading.Thread, "start", refuse)
        for _ in range(MAX_LOOKUPS + 1):
            with pytest.raises(OSError, match="can't start new thread"):
                await resolve("localhost", 443)

    assert await resolve("localhost", 443)

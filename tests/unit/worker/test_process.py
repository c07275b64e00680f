"""The event loop of the worker's process; processes themselves are in the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kagent_sdk.worker.process import run_until_ended
from kagent_sdk.worker.runtime import Ending


async def leave() -> None:
    """Leave through the event loop."""
    raise SystemExit(7)


def test_an_exit_in_a_job_does_not_end_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    """A task must not end the worker."""

    async def serve() -> Ending:
        job = asyncio.create_task(leave())
        await asyncio.wait([job])
        assert isinstance(job.exception(), SystemExit)
        return Ending.STOPPED

    assert run_until_ended(serve()) is Ending.STOPPED
    assert "a job wanted to end the process; it goes on:" in capsys.readouterr().err


def test_an_exit_of_our_own_goes_through() -> None:
    """It would otherwise be raised again without end."""

    async def serve() -> Ending:
        raise SystemExit(7)

    with pytest.raises(SystemExit):
        run_until_ended(serve())


def test_jobs_and_generators_that_are_left_are_ended() -> None:
    """The author's `finally` runs, also in what the agent has forgotten."""
    ended: list[str] = []

    async def live() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("job")

    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    kept: list[object] = []

    async def serve() -> Ending:
        kept.append(asyncio.create_task(live()))
        generator = count()
        kept.append(generator)
        await anext(generator)
        return Ending.STOPPED

    run_until_ended(serve())

    assert ended == ["job", "generator"]

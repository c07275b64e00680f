"""`on_startup` and `on_shutdown` functions."""

from __future__ import annotations

import asyncio

import pytest

from kagent_sdk.worker.hooks import run_shutdown, run_startup


async def test_start_up_stops_at_the_first_that_raises() -> None:
    """What comes later may need what has failed."""
    ran: list[int] = []

    def first() -> None:
        ran.append(1)

    async def second() -> None:
        raise SystemExit(2)

    error = await run_startup([first, second, first])

    assert isinstance(error, SystemExit)
    assert ran == [1]


async def test_shutdown_runs_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Each closes something."""
    ran: list[int] = []

    async def broken() -> None:
        raise asyncio.CancelledError

    def fine() -> None:
        ran.append(1)

    await run_shutdown([broken, fine])

    assert ran == [1]
    assert "broken' failed:" in capsys.readouterr().err


@pytest.mark.parametrize("run", [run_startup, run_shutdown])
async def test_a_cancellation_from_outside_goes_through(run: object) -> None:
    """The time is up: that is not the hook's failure."""

    async def wait() -> None:
        await asyncio.Event().wait()

    job = asyncio.ensure_future(run([wait]))  # type: ignore[operator]
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job

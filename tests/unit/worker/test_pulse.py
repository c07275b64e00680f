"""The heartbeat."""

from __future__ import annotations

from kagent_sdk.context import Flag
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import Heartbeat
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.parts import LoopPart
from kagent_sdk.worker.pulse import Pulse
from tests.unit.worker.rig import Bench


async def beats(bench: Bench) -> list[Heartbeat]:
    """Return the heartbeats that were written."""
    frames = await bench.frames()
    assert {kind for kind, _, _ in frames} <= {Kind.HEARTBEAT}
    return [Heartbeat.model_validate_json(payload) for _, _, payload in frames]


async def test_the_first_beat_comes_at_once_and_shows_what_there_is() -> None:
    """The host need not wait a period to know that the worker lives."""
    bench = Bench(threads=3)
    part = LoopPart("sweep", print, 5, is_async=False, takes_context=False)
    pulse = Pulse(bench.services, [LoopRunner(part, bench.services, Flag())], 3600)
    pulse.start()
    (beat,) = await beats(bench)
    pulse.close()

    assert (beat.lag_ms, beat.running, beat.threads, beat.threads_busy) == (beat.lag_ms, 0, 3, 0)
    assert [(loop.name, loop.state) for loop in beat.loops] == [("sweep", "waiting")]


async def test_the_lag_is_how_late_the_timer_ran() -> None:
    """A loop that was blocked for 2 s says so when it is back."""
    bench = Bench()
    pulse = Pulse(bench.services, [], 3600)
    pulse.close()
    pulse._beat(bench.loop.time() - 2)
    (beat,) = await beats(bench)
    pulse.close()

    assert 2000 <= beat.lag_ms < 4000


async def test_a_beat_that_would_not_be_read_is_left_out() -> None:
    """Heartbeats must not fill the worker's memory."""
    bench = Bench()
    bench.connection.pause_writing()
    pulse = Pulse(bench.services, [], 3600)
    pulse.start()
    pulse.close()

    assert await beats(bench) == []

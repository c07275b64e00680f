"""A load for agents behind NATS, run by the interpreter of kagent_sdk.

    python -m rig.nats_load URL TASKS-UNDER-WAY SECONDS INPUT

Prints the seconds that each task took, and those of the whole load, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from typing import TYPE_CHECKING

from kagent_sdk.link.nats.caller import Submission
from kagent_sdk.link.nats.client import connect_caller

if TYPE_CHECKING:
    from kagent_sdk.link.nats.caller import NatsCaller

AGENT, CAPABILITY = "digest", "digest"
WARM_S = 1.0


async def be_busy(caller: NatsCaller, task_input: bytes, until_s: float) -> list[float]:
    """Send one task after the other; return how long each took."""
    found = []
    while time.perf_counter() < until_s:
        began_s = time.perf_counter()
        submission = Submission(
            secrets.token_hex(8), capability=CAPABILITY, input=task_input, agent=AGENT
        )
        record = await caller.submit(submission)
        ended = await caller.wait(record.agent, record.task, 30)
        if ended is None or ended.state != "completed":
            raise SystemExit(f"a task did not complete: {ended}")
        found.append(time.perf_counter() - began_s)
    return found


async def load(
    url: str, count: int, seconds: float, task_input: bytes
) -> tuple[list[float], float]:
    """Keep so many tasks under way for so long; return latencies and the length of the load."""
    async with connect_caller(url) as caller:
        await _load_for(caller, count, WARM_S, task_input)
        return await _load_for(caller, count, seconds, task_input)


async def _load_for(
    caller: NatsCaller, count: int, seconds: float, task_input: bytes
) -> tuple[list[float], float]:
    began_s = time.perf_counter()
    jobs = [be_busy(caller, task_input, began_s + seconds) for _ in range(count)]
    latencies = [one for found in await asyncio.gather(*jobs) for one in found]
    return latencies, time.perf_counter() - began_s


if __name__ == "__main__":
    measured = asyncio.run(
        load(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4].encode())
    )
    sys.stdout.write(json.dumps(measured))

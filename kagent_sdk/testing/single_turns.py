"""One turn of an agent's loop, when a test asks for it."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

from kagent_sdk.context import Flag
from kagent_sdk.testing.in_process import InProcessHost
from kagent_sdk.worker.loops import LoopRunner
from kagent_sdk.worker.parts import AgentParts


async def run_turn(parts: AgentParts, name: str, host: InProcessHost) -> None:
    """Run the function of a loop once, as the agent's own job; see `AgentHarness.run_loop`."""
    part = next((each for each in parts.loops if each.name == name), None)
    if part is None:
        known = ", ".join(repr(each.name) for each in parts.loops) or "none"
        raise LookupError(f"no loop is called {name!r}; there is {known}")
    stopping = Flag()
    runner = LoopRunner(part, host.services, stopping)
    context = host.context.run(copy_context)
    job = asyncio.get_running_loop().create_task(_turn(runner), context=context)
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        stopping.set()
        job.cancel()
        await asyncio.wait([job])
        raise
    finally:
        runner.close()


async def _turn(runner: LoopRunner) -> None:
    await runner.turn()

"""Run by the interpreter of kagent_sdk: times calls of a capability in a harness, as JSON to stdout.

The peer in the same process validates, awaits the function and dumps, and does nothing else.
"""

from __future__ import annotations

import asyncio
import json
import time

from pydantic import BaseModel

from kagent_sdk import Agent, TaskContext
from kagent_sdk.testing import AgentHarness

CALLS = 1000
TEXT = "one two three four"


class Document(BaseModel):
    """What is digested."""

    text: str


class Digest(BaseModel):
    """The output."""

    summary: str
    words: int


agent = Agent("digester")


@agent.capability
async def digest(document: Document) -> Digest:
    """Take the first words and count all of them."""
    words = document.text.split()
    return Digest(summary=" ".join(words[:3]), words=len(words))


@agent.capability
async def visit(name: str, ctx: TaskContext) -> int:
    """Count in the state."""
    visits: int = await ctx.state.update(name, lambda before: before + 1, default=0)
    return visits


async def measure() -> dict[str, float]:
    """Return seconds by what took them."""
    found: dict[str, float] = {}
    expected = {"summary": "one two three", "words": 4}
    began_s = time.perf_counter()
    async with AgentHarness(agent) as harness:
        found["start"] = time.perf_counter() - began_s
        for name in ("warm", "calls"):
            began_s = time.perf_counter()
            for _ in range(CALLS):
                assert await harness.call("digest", text=TEXT) == expected
            found[name] = time.perf_counter() - began_s
        began_s = time.perf_counter()
        for number in range(CALLS):
            assert await harness.call("visit", name="ada") == number + 1
        found["state"] = time.perf_counter() - began_s
        began_s = time.perf_counter()
        for _ in range(CALLS):
            output = await digest(Document.model_validate_json(json.dumps({"text": TEXT})))
            assert json.loads(output.model_dump_json()) == expected
        found["bare"] = time.perf_counter() - began_s
        began_s = time.perf_counter()
    found["stop"] = time.perf_counter() - began_s
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))

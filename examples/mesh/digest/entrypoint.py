"""Makes long texts short: at once, or sentence by sentence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from kagent_sdk import Agent
from pydantic import BaseModel, Field

agent = Agent()


class Digest(BaseModel):
    """What `digest` answers."""

    summary: str
    words: int


class Point(BaseModel):
    """One item of `points`."""

    number: int
    text: str


def sentences_of(text: str) -> list[str]:
    """Cut a text into sentences."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


@agent.capability(idempotent=True)
async def digest(text: str, length: Annotated[int, Field(ge=1, le=10)] = 1) -> Digest:
    """Keep the longest sentences of a text: they tend to say the most."""
    sentences = sentences_of(text)
    longest = sorted(sentences, key=len, reverse=True)[:length]
    return Digest(
        summary=" ".join(part for part in sentences if part in longest), words=len(text.split())
    )


@agent.capability(idempotent=True)
async def points(
    text: str, pause_s: Annotated[float, Field(ge=0, le=5)] = 0.1
) -> AsyncIterator[Point]:
    """Yield the sentences of a text one by one. An async generator: it streams."""
    for number, sentence in enumerate(sentences_of(text), 1):
        yield Point(number=number, text=sentence)
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    agent.run()

"""An agent with one capability of every shape, none of which fails on an input that fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from kagent_sdk import Agent, TaskContext

agent = Agent()


class Kind(StrEnum):
    """A closed set of words."""

    MEMO = "memo"
    LETTER = "letter"


class Author(BaseModel):
    """A model within a model."""

    name: str
    born: date | None = None


class Document(BaseModel):
    """Everything that pydantic can say about a member."""

    text: Annotated[str, Field(max_length=1000)]
    kind: Kind = Kind.MEMO
    authors: Annotated[list[Author], Field(max_length=5)] = []
    tags: dict[str, int] = {}
    rating: Annotated[float | None, Field(ge=0, le=5)] = None
    format: Literal["plain", "html"] = "plain"


class Measures(BaseModel):
    """What comes back."""

    characters: int
    words: int
    authors: list[Author]
    kind: Kind


@agent.capability(idempotent=True)
async def measure(document: Document) -> Measures:
    """Measure a document."""
    return Measures(
        characters=len(document.text),
        words=len(document.text.split()),
        authors=document.authors,
        kind=document.kind,
    )


@agent.capability
def greet(name: str, *, excited: bool = False, times: Annotated[int, Field(ge=1, le=3)] = 1) -> str:
    """Greet somebody, in a thread."""
    return " ".join([f"Hello, {name}{'!' if excited else '.'}"] * times)


@agent.capability
async def count(to: Annotated[int, Field(ge=0, le=20)]) -> AsyncIterator[int]:
    """Count."""
    for number in range(to):
        yield number


@agent.capability
async def ping(ctx: TaskContext) -> None:
    """Take nothing and give nothing."""
    await ctx.progress(1, "pong")


if __name__ == "__main__":
    agent.run()

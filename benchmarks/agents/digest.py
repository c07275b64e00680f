"""A typed digest on kagent_sdk: also the hello agent of the start-up and memory benchmarks."""

from pydantic import BaseModel

from kagent_sdk import Agent

agent = Agent()


class Document(BaseModel):
    """What comes in."""

    text: str


class Digest(BaseModel):
    """What goes out."""

    summary: str
    words: int


@agent.capability
async def digest(document: Document) -> Digest:
    """Summarise a document."""
    words = document.text.split()
    return Digest(summary=" ".join(words[:12]), words=len(words))


if __name__ == "__main__":
    agent.run()

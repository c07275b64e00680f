"""An agent whose entrypoint takes 5 seconds to import."""

import time

time.sleep(5)

from pydantic import BaseModel  # noqa: E402 - the slow import stands first on purpose

from kagent_sdk import Agent  # noqa: E402

agent = Agent()


class Document(BaseModel):
    """What comes in."""

    text: str


@agent.capability
async def count(document: Document) -> int:
    """Count the words of a document."""
    return len(document.text.split())


if __name__ == "__main__":
    agent.run()

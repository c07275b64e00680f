"""A typed digest on bedrock-agentcore: `python digest.py PORT`."""

# mypy: disable-error-code="import-not-found, untyped-decorator"

import sys
from typing import Any

from bedrock_agentcore.runtime import BedrockAgentCoreApp
from pydantic import BaseModel


class Document(BaseModel):
    """What comes in."""

    text: str


class Digest(BaseModel):
    """What goes out."""

    summary: str
    words: int


app = BedrockAgentCoreApp()


@app.entrypoint
async def digest(payload: dict[str, Any]) -> dict[str, Any]:
    """Validate the payload, run, answer: agentcore itself knows no types."""
    document = Document.model_validate(payload)
    words = document.text.split()
    return Digest(summary=" ".join(words[:12]), words=len(words)).model_dump()


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), host="127.0.0.1")

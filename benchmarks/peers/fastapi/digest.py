"""A typed digest on FastAPI and uvicorn: `python digest.py PORT`."""

# mypy: disable-error-code="import-not-found, untyped-decorator"

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Document(BaseModel):
    """What comes in."""

    text: str


class Digest(BaseModel):
    """What goes out."""

    summary: str
    words: int


app = FastAPI()


@app.post("/digest")
async def digest(document: Document) -> Digest:
    """Run; FastAPI validates both ways."""
    words = document.text.split()
    return Digest(summary=" ".join(words[:12]), words=len(words))


@app.get("/healthz")
async def healthz() -> str:
    """Answer a probe."""
    return "ok"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")

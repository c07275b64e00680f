"""A typed digest on a bare aiohttp handler: `python digest.py PORT`."""

import sys

from aiohttp import web
from pydantic import BaseModel, ValidationError


class Document(BaseModel):
    """What comes in."""

    text: str


class Digest(BaseModel):
    """What goes out."""

    summary: str
    words: int


async def digest(request: web.Request) -> web.Response:
    """Validate the body, run, answer."""
    try:
        document = Document.model_validate_json(await request.read())
    except ValidationError as exc:
        return web.Response(status=422, text=exc.json(), content_type="application/json")
    words = document.text.split()
    answer = Digest(summary=" ".join(words[:12]), words=len(words))
    return web.Response(text=answer.model_dump_json(), content_type="application/json")


async def healthz(_request: web.Request) -> web.Response:
    """Answer a probe."""
    return web.Response(text="ok")


def main() -> None:
    """Serve on the port that the command line names."""
    app = web.Application()
    app.router.add_post("/digest", digest)
    app.router.add_get("/healthz", healthz)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()

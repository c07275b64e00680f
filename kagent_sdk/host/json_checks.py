"""Whether what a worker sends is JSON, without holding up the host's loop."""

from __future__ import annotations

import asyncio

from kagent_sdk.protocol.json_text import SMALL_BYTES, is_json


async def is_json_soon(text: bytes) -> bool:
    """Whether the text is one JSON value; a large one is looked at in a thread."""
    if len(text) <= SMALL_BYTES:
        return is_json(text)
    return await asyncio.to_thread(is_json, text)

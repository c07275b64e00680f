"""JSON that goes into messages and comes out of them; what is large is read in a thread. Pure but for that."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from kagent_sdk.protocol.json_text import SMALL_BYTES


def encode(value: Any) -> bytes:
    """Write a value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


async def decode(body: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        if len(body) > SMALL_BYTES:
            return await asyncio.to_thread(json.loads, body)
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


async def decode_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: it is none.
    """
    value = await decode(body)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - of what came, not of a type in the code
    return value


def envelope(
    task: str, capability: str, input: bytes, timeout_s: float | None, metadata: bytes
) -> bytes:
    """Return the body of a task's message, as `kagent_sdk.protocol.envelope` reads it."""
    head = encode({"id": task, "capability": capability, "timeout_s": timeout_s})
    return b'%b,"metadata":%b,"input":%b}' % (head[:-1], metadata, input)


def digest(capability: str, input: bytes) -> str:
    """Return what tells two tasks of one id apart."""
    return hashlib.sha256(capability.encode() + b"\0" + input).hexdigest()

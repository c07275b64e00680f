"""Bodies as models: what does not validate is a problem document that says where."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kagent_sdk.protocol import problems
from kagent_sdk.protocol.json_text import SMALL_BYTES, JsonTextError, check_json
from kagent_sdk.protocol.problem import RequestError

M = TypeVar("M", bound=BaseModel)

MAX_DETAILS = 20


async def read_model(model: type[M], body: bytes) -> M:
    """Return a body as a model; a large one is read in a thread.

    Raises:
        RequestError: 400 or 422.
    """
    if len(body) <= SMALL_BYTES:
        return _read(model, body)
    return await asyncio.to_thread(_read, model, body)


def _read(model: type[M], body: bytes) -> M:
    try:
        check_json(body)
        return model.model_validate_json(body)
    except JsonTextError as exc:
        raise RequestError(problems.invalid_json(str(exc))) from None
    except ValidationError as exc:
        raise RequestError(problems.invalid_request(_details(exc))) from None


def _details(error: ValidationError) -> list[dict[str, Any]]:
    """Return what is wrong, without the values: one of them may be a token."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"loc": list(one["loc"]), "msg": one["msg"], "type": one["type"]}
        for one in found[:MAX_DETAILS]
    ]

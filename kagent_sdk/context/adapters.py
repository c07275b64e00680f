"""Pydantic's adapters for the types that authors ask for values as."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter


def adapter_of(model: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter for a type hint; making one costs a millisecond, so they are kept."""
    try:
        hash(model)
    except TypeError:
        return TypeAdapter(model)
    return _cached_adapter(model)


@lru_cache(maxsize=256)
def _cached_adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)

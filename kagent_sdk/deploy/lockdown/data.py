"""Look into parsed data of unknown shape without tripping over it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_TEXT = 120
"""Of a value that is shown."""


def mapping(value: Any) -> dict[str, Any]:
    """Return a mapping; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list; anything else is an empty one."""
    return value if isinstance(value, list) else []


def at(value: Any, *keys: str) -> Any:
    """Return what stands behind keys, one in the other; None where there is nothing."""
    for key in keys:
        value = mapping(value).get(key)
    return value


def texts(value: Any) -> list[str]:
    """Return the items of a list, or the one value that stands for a list, as text."""
    if value is None:
        return []
    return [shown(item) for item in (value if isinstance(value, list) else [value])]


def numbered(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the mappings of a list with their places."""
    for number, item in enumerate(items(value)):
        yield f"{where}[{number}]", mapping(item)


def shown(value: Any) -> str:
    """Return a scalar as a manifest spells it, cut to what a line has room for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "…"
    return "nothing" if value is None else str(value)


def is_misfit(value: Any, kind: type) -> bool:
    """Tell whether something is there that should have another shape."""
    return value is not None and not isinstance(value, kind)

"""Lines of source, read from disk: `linecache` would keep whole files in the process."""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path
from types import FunctionType

from kagent_sdk.debug.probes.names import clean, type_module

MAX_LINES = 50_000
MAX_LINE_CHARS = 160


def read_line(filename: str, number: int) -> str:
    """Return a line of a file without its indentation; empty when it cannot be read."""
    lines = _read(filename, min(number, MAX_LINES))
    return clean(lines[number - 1].strip(), MAX_LINE_CHARS) if 0 < number <= len(lines) else ""


def class_place(cls: type) -> tuple[str, int] | None:
    """Return file and line where a class is written; None for one that is not written in Python."""
    filename = getattr(sys.modules.get(type_module(cls)), "__file__", None)
    if not isinstance(filename, str) or not filename.endswith(".py"):
        return None
    members = type.__getattribute__(cls, "__dict__")
    number = members.get("__firstlineno__")  # from Python 3.13
    if type(number) is not int:
        number = _find_class(filename, cls.__name__, _first_method_line(members))
    return (filename, number) if number else None


def _first_method_line(members: object) -> int:
    assert hasattr(members, "values")
    lines = [
        value.__code__.co_firstlineno
        for value in list(members.values())
        if type(value) is FunctionType
    ]
    return min(lines, default=0)


def _find_class(filename: str, name: str, before: int) -> int:
    """Return the line of the statement: of several the last one above the class's first method."""
    statement = re.compile(rf"\s*class\s+{re.escape(name)}\b")
    found = [
        number for number, line in enumerate(_read(filename, MAX_LINES), 1) if statement.match(line)
    ]
    above = [number for number in found if number <= before]
    return (above or found or [0])[-1 if above else 0]


def _read(filename: str, count: int) -> list[str]:
    try:
        with Path(filename).open(encoding="utf-8", errors="replace") as file:
            return list(islice(file, count))
    except (OSError, ValueError):
        return []

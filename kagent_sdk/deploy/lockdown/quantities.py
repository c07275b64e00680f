"""Amounts as engines and Kubernetes spell them. Pure; what cannot be read is None."""

from __future__ import annotations

import math
import re
from typing import Any

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_BYTES = re.compile(rf"^(?P<number>{_NUMBER}) ?(?P<unit>[A-Za-z]{{0,3}})$")
_KUBERNETES = re.compile(
    rf"^(?P<number>{_NUMBER})(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{{1,2}})?$"
)
_DURATION_PART = re.compile(rf"(?P<number>{_NUMBER}) *(?P<unit>[a-zµ]*) *")

_ENGINE_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_KUBERNETES_UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    **{f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)},
}
_SECONDS = {
    "": 1.0,
    "us": 1e-6,
    "µs": 1e-6,
    "usec": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
}


def engine_bytes(value: Any) -> int | None:
    """Return bytes as engines spell them: ``512m``, ``1GiB``, ``536870912``; units are 1024s."""
    found = _BYTES.match(_text(value).lower())
    if found is None:
        return None
    unit = found["unit"]
    if len(unit) > 1 and unit[0] != "b":
        unit = unit.removesuffix("b").removesuffix("i")
    factor = _ENGINE_UNITS.get(unit)
    return None if factor is None else int(float(found["number"]) * factor)


def kubernetes_amount(value: Any) -> float | None:
    """Return an amount as Kubernetes spells it: ``500m``, ``1``, ``512Mi``, ``1e3``."""
    found = _KUBERNETES.match(_text(value))
    if found is None:
        return None
    unit = found["unit"] or ""
    if unit[:1] in {"e", "E"} and len(unit) > 1 and unit[1] != "i":
        return float(found["number"]) * 10.0 ** int(unit[1:])
    return float(found["number"]) * _KUBERNETES_UNITS[unit]


def number(value: Any) -> float | None:
    """Return a plain number; negative ones too."""
    try:
        found = float(_text(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """Return a plain whole number; negative ones too."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def seconds(value: Any) -> float | None:
    """Return a duration: ``30``, ``30s``, ``1m30s``, systemd's ``1min 30s``."""
    text = _text(value)
    total, position = 0.0, 0
    while position < len(text):
        found = _DURATION_PART.match(text, position)
        if found is None or found["unit"] not in _SECONDS:
            return None
        total += float(found["number"]) * _SECONDS[found["unit"]]
        position = found.end()
    return total if text else None


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, bool) else str(value).strip()[:64]

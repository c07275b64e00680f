"""Pydantic's errors on the configuration, in the words of someone who edits a file."""

from __future__ import annotations

import json
import re
from typing import Any

from kagent_sdk.config.keys import KeyPath, suggest

MAX_SHOWN_CHARS = 60

_TEXTS = {
    "missing": "is missing",
    "model_type": "should be a mapping of keys",
    "tuple_type": "should be a list",
}
# What pydantic calls the subject: we have named the key already.
_SUBJECT = re.compile(r"^(Input|String|Value error,) ")
_PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?|true|false")


def explain(error: Any, path: KeyPath) -> str:
    """Return what is wrong with the value at a path, from one of pydantic's error records.

    The value is shown, if it is short and plain; never one of the section ``secrets``.
    """
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"unknown key; {suggest(path)}"
    text = _TEXTS.get(kind) or _SUBJECT.sub("", error["msg"])
    value = error["input"]
    if kind == "missing" or isinstance(value, dict | list):
        return text
    shown = "" if path[:1] == ("secrets",) else f" (is {_show(value)})"
    return f"{text}{shown}{_way_out(kind, value)}"


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _way_out(kind: str, value: object) -> str:
    if kind == "string_type" and value is not None:
        return "; put it in quotes"
    if kind in {"int_type", "float_type", "bool_type"} and _is_plain(value):
        return "; write it without quotes"
    return ""


def _is_plain(value: object) -> bool:
    """Tell whether a string would be another value without its quotes."""
    return isinstance(value, str) and _PLAIN.fullmatch(value) is not None

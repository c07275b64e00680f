"""Words of a command line → the input of a task.

::

    kos-agent call greet '{"name": "Ada"}'      JSON
    kos-agent call greet @input.json            JSON from a file
    kos-agent call greet -                      JSON from stdin
    kos-agent call greet name=Ada count:=3      plain words: key=text, key:=JSON
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

MAX_INPUT_BYTES = 64 * 1024 * 1024
"""Eight times the default of ``http.max_body_bytes``: the agent says no long before."""

_PAIR = re.compile(r"([A-Za-z_][\w.-]*)(:?=)(.*)", re.DOTALL)
_WAYS = "write JSON, @FILE, - for stdin, or plain words such as name=Ada count:=3"


def read_input(words: Sequence[str]) -> object:
    """Return the input that the words of a call stand for; no words are an empty object.

    Raises:
        UsageError: they are neither JSON nor pairs, or a file cannot be read.
    """
    if not words:
        return {}
    first = words[0]
    if len(words) == 1 and first == "-":
        return parse_json(_read(sys.stdin.buffer, "stdin"), "stdin")
    if len(words) == 1 and first.startswith("@"):
        return _read_file(Path(first[1:]))
    if len(words) == 1 and _PAIR.fullmatch(first) is None:
        return parse_json(first, "the input", hint=f"; {_WAYS}")
    return parse_pairs(words)


def parse_pairs(words: Sequence[str]) -> dict[str, object]:
    """Return an object from ``key=text`` and ``key:=JSON`` words.

    Raises:
        UsageError: a word is neither, or a key is there twice.
    """
    values: dict[str, object] = {}
    for word in words:
        pair = _PAIR.fullmatch(word)
        if pair is None:
            raise UsageError(f"'{clean_line(word)}' is neither key=text nor key:=JSON; {_WAYS}")
        key, sign, text = pair.groups()
        if key in values:
            raise UsageError(f"'{key}' is given twice; for a list write {key}:='[1, 2]'")
        values[key] = text if sign == "=" else parse_json(text, f"the value of '{key}'")
    return values


def parse_json(text: str | bytes, what: str, *, hint: str = "") -> object:
    """Return parsed JSON.

    Args:
        text: the JSON.
        what: what to call it in the error.
        hint: the end of the error's message.

    Raises:
        UsageError: it is not JSON (RFC 8259: NaN and Infinity are none).
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        where = (
            f"line {exc.lineno}, column {exc.colno}" if "\n" in exc.doc else f"column {exc.colno}"
        )
        reason = f"{exc.msg[:1].lower()}{exc.msg[1:]} at {where}"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as exc:
        reason = str(exc)
    raise UsageError(f"{what} is not JSON: {reason}{hint}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"there is no {name} in JSON")


def _read_file(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = _read(file, clean_line(path))
    except OSError as exc:
        raise UsageError(f"cannot read {clean_line(path)}: {exc.strerror}") from None
    return parse_json(content, clean_line(path))


def _read(file: BinaryIO, what: str) -> bytes:
    content = file.read(MAX_INPUT_BYTES + 1)
    if len(content) > MAX_INPUT_BYTES:
        raise UsageError(f"{what} is over {MAX_INPUT_BYTES} bytes: no agent takes such an input")
    return content

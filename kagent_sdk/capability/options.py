"""What an author says about a capability beside its signature, and what of it is wrong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NoReturn

from kagent_sdk.errors import DeclarationError
from kagent_sdk.protocol.manifest import NAME_PATTERN

OnDisconnect = Literal["cancel", "detach"]

MAX_DESCRIPTION_CHARS = 10_000
MAX_ATTEMPTS = 1000
MAX_TIMEOUT_S = 1e9
"""Thirty years: longer ones do not fit every clock."""

_NAME_RULE = (
    "write up to 64 ASCII letters, digits, `_`, `-` and `.`, beginning with a letter or `_`"
)
_FLAGS = ("idempotent", "durable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a capability.

    Attributes:
        idempotent: whether it may run again after its worker crashed.
        max_attempts: how often it runs at most, the first time included.
        timeout_s: how long a task may take if its caller does not say; None: the configuration's.
        max_concurrency: how many of its tasks run at a time; None: as many as there are places.
        on_disconnect: what becomes of a task whose caller hangs up.
        durable: whether its tasks are journaled.
        tags: words to find it by.
    """

    idempotent: bool = False
    max_attempts: int = 3
    timeout_s: float | None = None
    max_concurrency: int | None = None
    on_disconnect: OnDisconnect = "cancel"
    durable: bool = True
    tags: tuple[str, ...] = ()


def check_options(where: str, options: Options) -> None:
    """Refuse values that mean nothing: types are checked too, for hints do not bind an author.

    Raises:
        DeclarationError: one is wrong.
    """
    for name in _FLAGS:
        value = getattr(options, name)
        if not isinstance(value, bool):
            _refuse(where, name, value, "write True or False")
    if not _is_count(options.max_attempts) or options.max_attempts > MAX_ATTEMPTS:
        _refuse(where, "max_attempts", options.max_attempts, f"write 1 to {MAX_ATTEMPTS}")
    if options.timeout_s is not None and not _is_timeout(options.timeout_s):
        _refuse(where, "timeout_s", options.timeout_s, "write seconds above 0, or None")
    if options.max_concurrency is not None and not _is_count(options.max_concurrency):
        _refuse(where, "max_concurrency", options.max_concurrency, "write 1 or more, or None")
    if options.on_disconnect not in ("cancel", "detach"):
        _refuse(where, "on_disconnect", options.on_disconnect, _nearest(options.on_disconnect))


def check_tags(where: str, tags: Iterable[object]) -> tuple[str, ...]:
    """Return the tags as a tuple.

    Raises:
        DeclarationError: they are not words.
    """
    if isinstance(tags, str):
        _refuse(where, "tags", tags, f"write tags=({tags!r},)")
    try:
        words = tuple(tags)
    except TypeError:
        _refuse(where, "tags", tags, "write a tuple of strings")
    return tuple(_check_tag(where, word) for word in words)


def _check_tag(where: str, word: object) -> str:
    if not isinstance(word, str) or not word:
        _refuse(where, "tags", word, "write a tuple of strings that are not empty")
    return word


def check_name(where: str, name: object) -> str:
    """Return the name.

    Raises:
        DeclarationError: it would not fit a URL, a metric and a log line.
    """
    if name == "<lambda>":
        raise DeclarationError(f"{where}: a lambda has no name: write `def`, or give name=")
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        _refuse(where, "name", name, _NAME_RULE)
    return name


def check_description(where: str, text: object) -> str:
    """Return the description without the indentation of a docstring; empty without one.

    Raises:
        DeclarationError: it is too long, or no text.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        _refuse(where, "description", text, "write a string")
    cleaned = inspect.cleandoc(text).strip()
    if len(cleaned) > MAX_DESCRIPTION_CHARS:
        raise DeclarationError(
            f"{where}: the description has {len(cleaned)} characters, over the limit of "
            f"{MAX_DESCRIPTION_CHARS}: shorten the docstring, or give description="
        )
    return cleaned


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_timeout(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= MAX_TIMEOUT_S


def _nearest(value: object) -> str:
    # difflib is slow to import, and an agent starts without this error.
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(str(value), ("cancel", "detach"), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "write 'cancel' or 'detach'"


def _refuse(where: str, option: str, value: object, way_out: str) -> NoReturn:
    raise DeclarationError(f"{where}: {option} cannot be {value!r:.100}: {way_out}")

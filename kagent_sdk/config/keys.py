"""Which keys config.yaml has, and which one a wrong key was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.config.section import Section

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys, and numbers of list items."""

MAX_LISTED = 12


def known_keys() -> dict[tuple[str, ...], FieldInfo]:
    """Return every key of config.yaml, sections included, by its path."""
    return dict(_walk(AgentConfig, ()))


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that the field holds, if it holds one."""
    for kind in _alternatives(field.annotation):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def is_nullable(field: FieldInfo) -> bool:
    """Tell whether null is a value of the field."""
    return NoneType in _alternatives(field.annotation)


def takes_text(field: FieldInfo) -> bool:
    """Tell whether the field is a string, so that a variable's text is its value as it stands."""
    return all(_is_text(kind) for kind in _alternatives(field.annotation) if kind is not NoneType)


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: ``secrets.expose[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like this one, if any is."""
    # difflib is slow to import, and an agent with a right configuration never asks.
    from difflib import get_close_matches  # noqa: PLC0415

    return next(iter(get_close_matches(word, known, n=1)), None)


def suggest(path: KeyPath) -> str:
    """Say which key an unknown one was meant to be, or which ones there are."""
    keys = known_keys()
    word = str(path[-1])
    siblings = [key[-1] for key in keys if key[:-1] == path[:-1]]
    near = nearest(word, siblings)
    if near is not None:
        return f"did you mean {near}?"
    elsewhere = [key for key in keys if key[-1] == word]
    if elsewhere:
        return f"did you mean {dotted(elsewhere[0])}?"
    if not siblings:
        return "see `kos-agent config schema`"
    more = ", …" if len(siblings) > MAX_LISTED else ""
    return f"the keys here are {', '.join(siblings[:MAX_LISTED])}{more}"


def _walk(
    section: type[Section], prefix: tuple[str, ...]
) -> Iterable[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        yield path, field
        inner = section_of(field)
        if inner is not None:
            yield from _walk(inner, path)


def _alternatives(hint: Any) -> list[Any]:
    """Return the members of a union, or the one type; without ``Annotated``."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [kind for member in get_args(hint) for kind in _alternatives(member)]
    return [hint]


def _is_text(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return all(isinstance(value, str) for value in get_args(hint))
    return hint is str

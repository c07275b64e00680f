"""The environment variables that override keys of config.yaml: ``AGENT_<SECTION>__<KEY>``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kagent_sdk.config.draft import Draft, Source
from kagent_sdk.config.keys import is_nullable, known_keys, nearest, takes_text

PREFIX = "AGENT_"
SEPARATOR = "__"

_SCALARS = {"": None, "null": None, "~": None, "true": True, "false": False}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def apply_environment(draft: Draft, environ: Mapping[str, str]) -> None:
    """Put every override of the environment into a draft, and report those that it cannot take.

    Variables with a double underscore must name a key. Others count only if they name a key of
    the top level: ``AGENT_CONFIG``, ``AGENT_TOKEN_FILE`` and the worker's own are no keys.
    """
    keys = known_keys()
    for name in sorted(each for each in environ if each.startswith(PREFIX)):
        path = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
        source = Source(1, 0, 0, name, path)
        if path not in keys:
            if len(path) > 1:
                draft.report(source, path, _suggest(name, keys))
            continue
        _apply(
            draft,
            source,
            environ[name],
            is_text=takes_text(keys[path]),
            null=is_nullable(keys[path]),
        )


def variable_of(path: tuple[str, ...]) -> str:
    """Return the variable that overrides a key."""
    return PREFIX + SEPARATOR.join(path).upper()


def _apply(draft: Draft, source: Source, raw: str, *, is_text: bool, null: bool) -> None:
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            draft.report(source, source.path, "is not UTF-8")
            return
    if is_text:
        value = None if null and raw in {"", "null", "~"} else raw
        draft.put(source.path, value, source)
        return
    _put_yaml(draft, source, raw)


def _put_yaml(draft: Draft, source: Source, raw: str) -> None:
    if raw in _SCALARS:
        draft.put(source.path, _SCALARS[raw], source)
        return
    if _INTEGER.fullmatch(raw):
        draft.put(source.path, int(raw), source)
        return
    # PyYAML takes 30 ms to import: most variables are plain, and most agents set none.
    from kagent_sdk.config.document import parse_document  # noqa: PLC0415

    document = parse_document(raw)
    for fault in document.faults:
        draft.report(source, (*source.path, *fault.path), fault.text)
    if not document.faults:
        draft.put(source.path, document.value, source)


def _suggest(name: str, keys: Iterable[tuple[str, ...]]) -> str:
    # Without the prefix, which all have in common.
    names = [variable_of(path).removeprefix(PREFIX) for path in keys]
    near = nearest(name.removeprefix(PREFIX).upper(), names)
    if near is None:
        return "unknown key; see `kos-agent config schema`"
    return f"unknown key; did you mean {PREFIX}{near}?"

"""Read YAML safely and remember on which line each value stands.

PyYAML's own constructor forgets the lines, lets the last of two equal keys win, and lets aliases
make a small text huge. This reader walks over the parser's events instead: no aliases, no tags, no
duplicate keys, a bounded depth. A date stays text; so does every key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from kagent_sdk.config.keys import KeyPath

MAX_DEPTH = 20
"""The configuration has four levels."""

_TAG = "tag:yaml.org,2002:"
_TEXTS = frozenset({f"{_TAG}{kind}" for kind in ("str", "timestamp", "merge", "value")})
# The pure loader quotes it in its message, and it may be the beginning of a secret.
_TAG_HANDLE = re.compile(r"handle '[^']*'")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a text.

    Attributes:
        line: where, from 1 on.
        column: where in the line, from 1 on; 0 when ``path`` says more.
        path: the value that is wrong, if it is one.
        text: what is wrong.
    """

    line: int
    column: int
    path: KeyPath
    text: str


@dataclass(slots=True)
class Document:
    """What a text holds.

    Attributes:
        value: the value at the root; None if the text is empty or cannot be read.
        lines: the line of every key, list item and of the root (the empty path).
        faults: what is wrong; a text that cannot be read to its end has one at least.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class _UnreadableError(Exception):
    """Nothing behind this fault can be understood."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def parse_document(text: str) -> Document:
    """Read one YAML document; whatever is wrong stands in its ``faults``."""
    document = Document()
    try:
        reader = _Reader(text, document)
        document.value = reader.read()
    except _UnreadableError as exc:
        document.value = None
        document.faults.append(exc.fault)
    except yaml.MarkedYAMLError as exc:
        document.value = None
        document.faults.append(_fault_of(exc))
    except yaml.YAMLError:
        document.value = None
        document.faults.append(_find_control_character(text))
    return document


class _Reader:
    def __init__(self, text: str, document: Document) -> None:
        self._events = _loader()(text)
        self._document = document

    def read(self) -> Any:
        events = self._events
        events.get_event()  # the stream's start
        if events.check_event(yaml.StreamEndEvent):
            return None
        events.get_event()  # the document's start
        value = self._value((), events.get_event())
        events.get_event()  # the document's end
        if not events.check_event(yaml.StreamEndEvent):
            raise _unreadable(events.get_event(), "a second document: there must be one only")
        return value

    def _value(self, path: KeyPath, event: Any) -> Any:
        self._document.lines.setdefault(path, _line_of(event))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(path, event)
        if isinstance(event, yaml.AliasEvent):
            raise _unreadable(event, "an alias (`*name`): repeat the value instead")
        if len(path) >= MAX_DEPTH:
            raise _unreadable(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        return self._mapping(path)

    def _list(self, path: KeyPath) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := self._events.get_event(), yaml.SequenceEndEvent):
            values.append(self._value((*path, len(values)), event))
        return values

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(key := self._events.get_event(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise _unreadable(key, "a key must be a plain word")
            inner = (*path, key.value)
            if key.value in values:
                first = self._document.lines[inner]
                self._report(key, inner, f"is there twice, first on line {first}")
            self._document.lines.setdefault(inner, _line_of(key))
            values[key.value] = self._value(inner, self._events.get_event())
        return values

    def _scalar(self, path: KeyPath, event: Any) -> Any:
        tag = event.tag
        if tag in {None, "!"}:
            tag = self._events.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag in _TEXTS:
            return event.value
        if tag == f"{_TAG}null":
            return None
        try:
            return self._number(tag, event)
        except (ArithmeticError, LookupError, ValueError):
            self._report(event, path, "cannot be read: put it in quotes, without a tag")
            return event.value

    def _number(self, tag: str, event: Any) -> Any:
        node = yaml.ScalarNode(tag, event.value)
        if tag == f"{_TAG}bool":
            return self._events.construct_yaml_bool(node)
        if tag == f"{_TAG}int":
            return self._events.construct_yaml_int(node)
        if tag == f"{_TAG}float":
            return self._events.construct_yaml_float(node)
        raise ValueError

    def _report(self, event: Any, path: KeyPath, text: str) -> None:
        self._document.faults.append(Fault(_line_of(event), 0, path, text))


def _loader() -> Any:
    # LibYAML is ten times faster, but some builds of PyYAML lack it.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _unreadable(event: Any, text: str) -> _UnreadableError:
    mark = event.start_mark
    return _UnreadableError(Fault(mark.line + 1, mark.column + 1, (), text))


def _fault_of(exc: yaml.MarkedYAMLError) -> Fault:
    mark = exc.problem_mark
    assert mark is not None  # the scanner and the parser always know it
    text = _TAG_HANDLE.sub("handle", str(exc.problem))
    if exc.context and exc.context_mark:
        text = f"{text} {exc.context} from line {exc.context_mark.line + 1} on"
    return Fault(mark.line + 1, mark.column + 1, (), text)


def _find_control_character(text: str) -> Fault:
    """Explain the one error of PyYAML's reader, which has no line."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    before = text[: found.start()] if found else ""
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return Fault(line, column, (), "a control character, which YAML does not allow")

"""Read the YAML of a manifest, written by anybody: bounded in size, depth and count. Pure.

Manifests have what a config.yaml may not: several documents, anchors, merge keys. An alias stands for
the same value, so a small text stays small in memory; how often values are repeated is bounded all
the same, for whoever walks over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kagent_sdk.errors import DeployError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
"""A CronJob's probes are fifteen levels down."""

MAX_VALUES = 100_000
"""What aliases stand for counts each time."""

MAX_DOCUMENTS = 200

_TAG = "tag:yaml.org,2002:"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text.

    Attributes:
        value: mappings with text as keys, lists, text, numbers, truth values and None.
        lines: the line of every key and list item; what an alias stands for has none.
    """

    value: Any
    lines: Mapping[Path, int]

    def where(self, *path: str | int, label: str = "") -> str:
        """Return a place as people read it: ``services.agent.read_only (line 12)``.

        Args:
            path: to the value; where it is not there the line is that of what is around it.
            label: what to call the place instead.
        """
        at: Path = path
        while at and at not in self.lines:
            at = at[:-1]
        text = label or spell(path)
        line = self.lines.get(at)
        return text if line is None else f"{text} (line {line})"


def spell(path: Path) -> str:
    """Return a path as people read it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_documents(text: str) -> tuple[Document, ...]:
    """Return the documents of a text that have something in them.

    Raises:
        DeployError: it is no YAML, or too much of it; the message says where.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise DeployError(f"over {MAX_BYTES} bytes: this is no manifest")
    try:
        return _Reader(text).read()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        line = 1 if mark is None else mark.line + 1
        raise DeployError(f"line {line}: this is no YAML: {exc.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError):
        raise DeployError("this is no YAML") from None


@dataclass(slots=True)
class _Known:
    value: Any
    count: int


class _Reader:
    def __init__(self, text: str) -> None:
        # LibYAML is ten times faster, but some builds of PyYAML lack it.
        self._events: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, _Known] = {}
        self._count = 0

    def read(self) -> tuple[Document, ...]:
        events, documents = self._events, []
        events.get_event()  # the stream's start
        while not events.check_event(yaml.StreamEndEvent):
            self._lines, self._anchors = {}, {}
            events.get_event()  # the document's start
            value = self._value((), events.get_event())
            events.get_event()  # the document's end
            if value is not None:
                documents.append(Document(value, self._lines))
            if len(documents) > MAX_DOCUMENTS:
                raise DeployError(f"more than {MAX_DOCUMENTS} documents")
        return tuple(documents)

    def _value(self, path: Path, event: Any) -> Any:
        line = int(event.start_mark.line) + 1
        self._lines.setdefault(path, line)
        self._add(1, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        before = self._count
        value = self._fresh(path, event, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Known(value, self._count - before)
        return value

    def _alias(self, event: Any, line: int) -> Any:
        known = self._anchors.get(event.anchor)
        if known is None:
            raise DeployError(f"line {line}: nothing before is called &{event.anchor}")
        self._add(known.count, line)
        return known.value

    def _fresh(self, path: Path, event: Any, line: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line)
        if len(path) >= MAX_DEPTH:
            raise DeployError(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        return self._mapping(path)

    def _list(self, path: Path) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := self._events.get_event(), yaml.SequenceEndEvent):
            values.append(self._value((*path, len(values)), event))
        return values

    def _mapping(self, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(key := self._events.get_event(), yaml.MappingEndEvent):
            line = int(key.start_mark.line) + 1
            if not isinstance(key, yaml.ScalarEvent):
                raise DeployError(f"line {line}: a key must be a plain word")
            inner = (*path, key.value)
            if key.value in values:
                # Readers differ on which of the two counts.
                raise DeployError(f"line {line}: {spell(inner)} is there twice")
            self._lines[inner] = line
            value = self._value(inner, self._events.get_event())
            if key.value == "<<":
                merged += value if isinstance(value, list) else [value]
            else:
                values[key.value] = value
        return _merge(values, merged)

    def _scalar(self, event: Any, line: int) -> Any:
        tag = event.tag
        if tag in {None, "!"}:
            tag = self._events.resolve(yaml.ScalarNode, event.value, event.implicit)
        if ":" in event.value:
            return event.value  # YAML 1.1 reads 80:22 as a number of base 60; engines do not
        node = yaml.ScalarNode(tag, event.value)
        makers = {
            f"{_TAG}null": lambda _: None,
            f"{_TAG}bool": self._events.construct_yaml_bool,
            f"{_TAG}int": self._events.construct_yaml_int,
            f"{_TAG}float": self._events.construct_yaml_float,
        }
        try:
            return makers[tag](node) if tag in makers else event.value
        except (ArithmeticError, LookupError, ValueError):
            raise DeployError(f"line {line}: a number that cannot be read") from None

    def _add(self, count: int, line: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise DeployError(f"line {line}: more than {MAX_VALUES} values")


def _merge(values: dict[str, Any], merged: list[Any]) -> dict[str, Any]:
    """Return a mapping with what its merge keys bring; its own values win, then the first."""
    for other in merged:
        if isinstance(other, dict):
            values.update({key: value for key, value in other.items() if key not in values})
    return values

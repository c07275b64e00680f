"""The configuration while it is put together: values, where each came from, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from kagent_sdk.config.explanation import explain
from kagent_sdk.config.keys import KeyPath, dotted, is_nullable, known_keys, section_of
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ConfigError

MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where a value came from; sources sort in the order of their problems.

    Attributes:
        rank: 0 for the file, 1 for the environment, 2 for overrides.
        line: in the file, else 0.
        column: in the line, if it is known.
        label: the file, the variable or the override.
        path: the path that the label stands for: the root, for a file.
    """

    rank: int
    line: int
    column: int
    label: str
    path: KeyPath = ()

    def describe(self, path: KeyPath, text: str) -> str:
        """Return one line on a problem with the value at a path."""
        place = ":".join(str(part) for part in (self.label, self.line, self.column) if part)
        is_inside = path[: len(self.path)] == self.path
        key = dotted(path[len(self.path) :] if is_inside else path)
        return f"{place}: {key}: {text}" if key else f"{place}: {text}"


class Draft:
    """A configuration in the making.

    Args:
        label: the name of the file, for problems that have no better place.
    """

    def __init__(self, label: str) -> None:
        self._root = Source(0, 0, 0, label)
        self._tree: dict[str, Any] = {}
        self._sources: dict[KeyPath, Source] = {}
        self._problems: list[tuple[Source, str]] = []

    def report(self, source: Source, path: KeyPath, text: str) -> None:
        """Take note of a problem."""
        self._problems.append((source, source.describe(path, text)))

    def put(self, path: KeyPath, value: Any, source: Source) -> None:
        """Set a value, replacing an earlier one; a mapping is merged into an earlier mapping."""
        if isinstance(value, dict) and isinstance(self._find(path), dict):
            for key, inner in value.items():
                self.put((*path, key), inner, source)
            return
        parent = self._make_parent(path)
        if parent is None:
            return
        parent[path[-1]] = value
        for known in [each for each in self._sources if each[: len(path)] == path]:
            del self._sources[known]
        self._sources[path] = source

    def locate(self, path: KeyPath, source: Source) -> None:
        """Remember more exactly where a part of a value came from."""
        self._sources[path] = source

    def describe(self, path: KeyPath, text: str) -> str:
        """Return one line on a problem with a value, with the place where it came from."""
        return self._source_of(path).describe(path, text)

    def finish(self) -> AgentConfig:
        """Return the configuration.

        Raises:
            ConfigError: there are problems: those reported, and what pydantic finds.
        """
        self._drop_empty_sections()
        config = self._validate()
        if config is None or self._problems:
            raise ConfigError("\n".join(self._list_problems())) from None
        return config

    def _validate(self) -> AgentConfig | None:
        # As JSON, for there pydantic's strict mode takes lists as tuples, but not true as 1.
        raw = to_json(self._tree, inf_nan_mode="constants")
        try:
            return AgentConfig.model_validate_json(raw, strict=True)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                path = error["loc"]
                self.report(self._source_of(path), path, explain(error, path))
            return None

    def _list_problems(self) -> list[str]:
        lines = [text for _, text in sorted(self._problems)]
        rest = len(lines) - MAX_PROBLEMS
        return lines[:MAX_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])

    def _source_of(self, path: KeyPath) -> Source:
        """Return the source of a value, of what contains it, or of something that it contains."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._sources:
                return self._sources[path[:length]]
        inside = [source for each, source in self._sources.items() if each[: len(path)] == path]
        return min(inside, default=self._root)

    def _find(self, path: KeyPath) -> Any:
        node: Any = self._tree
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def _make_parent(self, path: KeyPath) -> Any:
        """Return the mapping that holds the path, or None where something else stands in the way."""
        node: Any = self._tree
        for key in path[:-1]:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
            if not isinstance(node, dict):
                return None
        return node

    def _drop_empty_sections(self) -> None:
        """Take ``http:`` with nothing below it as no section, as people mean it."""
        for path, field in known_keys().items():
            parent = self._find(path[:-1])
            is_section = section_of(field) is not None and not is_nullable(field)
            if is_section and isinstance(parent, dict) and parent.get(path[-1], ...) is None:
                del parent[path[-1]]

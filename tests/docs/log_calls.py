"""Find what the host, the worker and the orchestrator write to their logs, in their syntax trees."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2] / "kagent_sdk"

LEVELS = ("debug", "info", "warning", "error", "critical")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

UNKNOWN = ""
"""Stands among the values of an expression for one that the source does not tell."""


@dataclass(frozen=True, slots=True)
class LogCall:
    """One place that writes a record.

    Attributes:
        module: below the package, with dots.
        line: where.
        levels: what the level may be.
        events: what the event may be; `UNKNOWN` among them when it is no literal.
        fields: the keys of the record beside the common ones, `UNKNOWN` among them for those of a
            mapping that the source does not tell.
        function: in which function it stands.
    """

    module: str
    line: int
    levels: tuple[str, ...]
    events: tuple[str, ...]
    fields: tuple[str, ...]
    function: str

    @property
    def where(self) -> str:
        """Module and function, as a list of exceptions names them."""
        return f"{self.module}:{self.function}"


@dataclass(slots=True)
class Scope:
    """A function, or a module, and what names may stand for in it.

    Attributes:
        node: the function; None for the module.
        nodes: what stands in it, without what stands in functions inside.
        outer: the scope around it.
    """

    node: Function | None
    nodes: list[ast.AST]
    outer: Scope | None = None
    values: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))

    @property
    def name(self) -> str:
        """Of the function."""
        return "" if self.node is None else self.node.name

    @property
    def parameters(self) -> list[str]:
        """The names of the function's parameters, in order, without ``self``."""
        if self.node is None:
            return []
        arguments = self.node.args
        names = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
        names = names[1:] if names[:1] in (["self"], ["cls"]) else names
        return names + [each.arg for each in arguments.kwonlyargs]

    def strings(self, node: ast.expr | None) -> tuple[str, ...]:
        """Return the strings that an expression may be."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return (node.value,)
        choices = self._choices(node)
        if choices is None:
            return (UNKNOWN,)
        return tuple(dict.fromkeys(text for scope, each in choices for text in scope.strings(each)))

    def _choices(self, node: ast.expr | None) -> list[tuple[Scope, ast.expr]] | None:
        """Return the expressions of which one is what this one is; None when that is not known."""
        match node:
            case ast.IfExp():
                found = [node.body, node.orelse]
            case ast.BoolOp(values=found) | ast.Tuple(elts=found) | ast.List(elts=found):
                pass
            case ast.Name(id=name) if name in self.values:
                found = self.values[name]
            case ast.Name(id=name) if self.outer is not None and name not in self.parameters:
                return self.outer._choices(node)
            case _:
                return None
        return [(self, each) for each in found]

    def texts(self, node: ast.expr) -> tuple[str, ...]:
        """Return the texts that an expression may be, with … for what varies in them."""
        match node:
            case ast.JoinedStr():
                pieces = (
                    each.value if isinstance(each, ast.Constant) else "…" for each in node.values
                )
                return ("".join(map(str, pieces)),)
            case ast.Call(func=ast.Attribute(value=ast.Name() as inner)):
                return self.texts(inner)
            case ast.Name(id=name) if name in self.values:
                return tuple(text for each in self.values[name] for text in self.texts(each))
        return tuple(each or "…" for each in self.strings(node))

    def keys(self, node: ast.expr | None) -> tuple[str, ...]:
        """Return the keys that a mapping may have."""
        match node:
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                found = [
                    self.keys(value) if name is None else self.strings(name)
                    for name, value in pairs
                ]
            case ast.BinOp(op=ast.BitOr()):
                found = [self.keys(node.left), self.keys(node.right)]
            case ast.Call(func=ast.Name(id="dict"), args=[]):
                found = [tuple(each.arg or UNKNOWN for each in node.keywords)]
            case _:
                choices = self._choices(node)
                found = (
                    [(UNKNOWN,)] if choices is None else [each.keys(one) for each, one in choices]
                )
        return tuple(dict.fromkeys(key for keys in found for key in keys))


class LogModule:
    """One module of the package.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
        self.name = ".".join(inside.with_suffix("").parts)
        self._text = path.read_text(encoding="utf-8")

    def has_any(self, signs: Iterable[str]) -> bool:
        """Tell whether one of these texts stands in it."""
        return any(sign in self._text for sign in signs)

    @cached_property
    def calls(self) -> list[tuple[Scope, ast.expr]]:
        """All calls and dict displays, with the scope that each stands in."""
        return list(_walk(_scope(None, ast.parse(self._text).body, None)))


def _scope(node: Function | None, body: list[ast.stmt], outer: Scope | None) -> Scope:
    scope = Scope(node, list(_statements(body)), outer)
    for each in scope.nodes:
        match each:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name):
                        scope.values[name.id].append(value)
            case ast.Assign(targets=[ast.Name(id=name)]):
                scope.values[name].append(each.value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                scope.values[name].append(value)
            case ast.NamedExpr(target=ast.Name(id=name)):
                scope.values[name].append(each.value)
            case ast.For(target=ast.Name(id=name), iter=ast.Tuple() as values):
                scope.values[name].append(values)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.BitOr()):
                scope.values[name].append(each.value)
            case _:
                pass
    return scope


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield what stands in a scope in source order, without what stands in functions inside."""
    waiting = list(body)[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function):
            waiting.extend(list(ast.iter_child_nodes(node))[::-1])


def _walk(scope: Scope) -> Iterator[tuple[Scope, ast.expr]]:
    for node in scope.nodes:
        if isinstance(node, Function):
            yield from _walk(_scope(node, node.body, scope))
        elif isinstance(node, ast.Call | ast.Dict):
            yield scope, node


def called_name(call: ast.Call) -> str:
    """Return the name of the function or method that is called."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""

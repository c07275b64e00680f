"""Public names as they stand in the source: what a class or a function looks like before it runs.

The source, and not `inspect.signature`: hints are shown as they were written, in the same way by
every release of Python.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Attribute: TypeAlias = ast.AnnAssign | ast.Assign

PRIVATE_WORDS = "'s business"
"""What a docstring says of a name that is public for other parts alone: that it is the runtime's."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a class.

    Attributes:
        name: its name.
        owner: the class that defines it.
        stubs: its definitions, overloads first; an annotated attribute has none.
        attribute: the statement, where it is an attribute of the class.
        docstring: possibly empty.
    """

    name: str
    owner: type
    stubs: tuple[Function, ...]
    attribute: Attribute | None
    docstring: str

    @property
    def is_property(self) -> bool:
        """Whether it is read as an attribute."""
        return bool(self.stubs) and has_decorator(self.stubs[-1], "property", "cached_property")


@cache
def parse(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    path = sys.modules[module].__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return _Inliner(tree).visit(tree)  # type: ignore[no-any-return]  # visit returns Any


def find_class(owner: type) -> ast.ClassDef:
    """Return a class as it stands in the source."""
    for node in ast.walk(parse(owner.__module__)):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            return node
    raise LookupError(f"no class {owner.__name__} in {owner.__module__}")


def find_functions(function: Any) -> tuple[Function, ...]:
    """Return the definitions of a function of a module: overloads first."""
    original = inspect.unwrap(function)
    body = parse(original.__module__).body
    return _pick([node for node in body if _is_function(node) and node.name == original.__name__])


def read_members(owner: type, home: str) -> Iterator[Member]:
    """Yield the public members of a class in source order, its own first, then those of its bases.

    Args:
        owner: the class.
        home: the package; bases from elsewhere are not looked into.
    """
    seen: set[str] = set()
    for each in owner.__mro__:
        if each.__module__.partition(".")[0] != home:
            continue
        for member in _own_members(each):
            if member.name not in seen:
                seen.add(member.name)
                if _is_public(member):
                    yield member


def _own_members(owner: type) -> Iterator[Member]:
    body = find_class(owner).body
    done: set[str] = set()
    for place, node in enumerate(body):
        if _is_function(node) and node.name not in done:
            done.add(node.name)
            same = [other for other in body if _is_function(other) and other.name == node.name]
            docstring = ast.get_docstring(same[-1]) or ast.get_docstring(same[0]) or ""
            yield Member(node.name, owner, _pick(same), None, docstring)
        elif name := attribute_name(node):
            assert isinstance(node, ast.AnnAssign | ast.Assign)
            yield Member(name, owner, (), node, _string_after(body, place))


def attribute_name(node: ast.stmt) -> str | None:
    """Return which attribute a statement gives to its class: one with a hint, or a constant."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
            return name
        case _:
            return None


def _is_public(member: Member) -> bool:
    return not member.name.startswith("_") and PRIVATE_WORDS not in member.docstring.lower()


def _pick(found: list[Function]) -> tuple[Function, ...]:
    """Leave out what overloads stand for, and the setter and deleter of a property."""
    overloads = tuple(node for node in found if has_decorator(node, "overload"))
    if overloads:
        return overloads
    return tuple(found[:1])


def has_decorator(node: Function | ast.ClassDef, *names: str) -> bool:
    """Tell whether a definition has one of these decorators, whatever module it is taken from."""
    written = (ast.unparse(each).partition("(")[0] for each in node.decorator_list)
    return any(text.rpartition(".")[2] in names for text in written)


def _is_function(node: ast.AST) -> TypeGuard[Function]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _string_after(body: list[ast.stmt], place: int) -> str:
    """Return the string that stands below an attribute and describes it."""
    match body[place + 1 : place + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return inspect.cleandoc(text)
        case _:
            return ""


class _Inliner(ast.NodeTransformer):
    """Puts a module's constants and `Literal` aliases where signatures name them."""

    def __init__(self, tree: ast.Module) -> None:
        self._values = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and _can_be_inlined(node.value)
        }

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        """Look into the hints and defaults of parameters, and nowhere else."""
        node.defaults = [self._inline(each) for each in node.defaults]
        node.kw_defaults = [each and self._inline(each) for each in node.kw_defaults]
        for argument in [*node.posonlyargs, *node.args, *node.kwonlyargs]:
            argument.annotation = argument.annotation and self._inline(argument.annotation)
        return node

    def _inline(self, node: ast.expr) -> ast.expr:
        return self._values.get(node.id, node) if isinstance(node, ast.Name) else node


def _can_be_inlined(value: ast.expr) -> bool:
    if isinstance(value, ast.Subscript):
        return ast.unparse(value.value).rpartition(".")[2] == "Literal"
    return isinstance(value, ast.Constant)

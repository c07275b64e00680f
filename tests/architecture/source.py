"""Read a package's modules and the arrows between them from source text, running none of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of the package.

    Attributes:
        name: dotted, ``kagent_sdk.host.engine``; of a package's ``__init__.py`` the package's name.
        path: where it lies.
        is_package: whether it is an ``__init__.py``.
        tree: its syntax tree.
        line_count: lines of the file, blank ones included.
    """

    name: str
    path: Path
    is_package: bool
    tree: ast.Module
    line_count: int


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, as written: absolute and dotted, not yet resolved.

    Attributes:
        base: what follows ``from``, or the whole of ``import a.b``.
        name: what follows ``import`` in a ``from`` statement, else None.
        line: where it stands.
    """

    base: str
    name: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """``source`` imports ``target``; both are names of modules of the package.

    Attributes:
        name: what is taken from the target; None when the import names a module.
    """

    source: str
    target: str
    name: str | None
    line: int


TEMPLATES = "templates"


def read_modules(folder: Path) -> dict[str, Module]:
    """Parse every Python file below the package's folder, keyed by dotted name.

    Templates are files that ``kos-agent init`` writes elsewhere: nothing imports them here.
    """
    paths = (path for path in sorted(folder.rglob("*.py")) if TEMPLATES not in path.parts)
    modules = (_read_module(path, folder) for path in paths)
    return {module.name: module for module in modules}


def _read_module(path: Path, folder: Path) -> Module:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    text = path.read_text(encoding="utf-8")
    return Module(
        name=".".join(parts[:-1] if is_package else parts),
        path=path,
        is_package=is_package,
        tree=ast.parse(text, str(path)),
        line_count=len(text.splitlines()),
    )


def iter_imports(module: Module) -> Iterator[Import]:
    """Yield every import, those in functions and under ``if TYPE_CHECKING`` included.

    ``import_module("name")`` and ``__import__("name")`` count too when the name is a literal.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute_base(module, node)
            for alias in node.names:
                yield Import(base, alias.name, node.lineno)
        elif isinstance(node, ast.Call) and (name := _literal_import(node)):
            yield Import(name, None, node.lineno)


def _absolute_base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def _literal_import(node: ast.Call) -> str | None:
    function = node.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if called not in {"import_module", "__import__"} or not node.args:
        return None
    argument = node.args[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    return None


def iter_arrows(modules: Mapping[str, Module], package: str) -> Iterator[Arrow]:
    """Yield the imports between modules of the package.

    A name that the package's front re-exports lazily points at the name's real home.
    """
    homes = read_literal(modules[package], "_HOMES") if package in modules else None
    lazy_homes = homes if isinstance(homes, dict) else {}
    for module in modules.values():
        for found in iter_imports(module):
            if found.base.split(".")[0] == package:
                target, name = _resolve(found, modules, package, lazy_homes)
                yield Arrow(module.name, target, name, found.line)


def _resolve(
    found: Import, modules: Mapping[str, Module], package: str, lazy_homes: Mapping[str, str]
) -> tuple[str, str | None]:
    if found.name is None:
        return found.base, None
    submodule = f"{found.base}.{found.name}"
    if submodule in modules:
        return submodule, None
    if found.base == package and found.name in lazy_homes:
        return f"{package}.{lazy_homes[found.name]}", found.name
    return found.base, found.name


def iter_foreign(module: Module, package: str) -> Iterator[tuple[str, int]]:
    """Yield (top-level name, line) of every import from outside the package."""
    for found in iter_imports(module):
        top = found.base.split(".")[0]
        if top != package:
            yield top, found.line


def read_literal(module: Module, name: str) -> object:
    """Return the literal that is assigned to a module-level name; None when there is none."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            literal: object = ast.literal_eval(value)
            return literal
    return None


def iter_functions(module: Module) -> Iterator[tuple[str, int, int]]:
    """Yield (name, line, lines) of every function, from ``def`` to its end, decorators apart."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1

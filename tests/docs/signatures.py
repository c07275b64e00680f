"""Signatures as a person would write them: stubs that fit a page's width."""

from __future__ import annotations

import ast
import re

from tests.docs.sources import Attribute, Function, Member, has_decorator

WIDTH = 88
INDENT = "    "

DECORATORS = ("staticmethod", "classmethod", "contextmanager", "asynccontextmanager")
"""Those that change how a function is called."""

_QUOTED = re.compile(r"'([^'\"\\]*)'")


def write(node: ast.AST) -> str:
    """Return an expression as it is written in this project: strings in double quotes."""
    return _QUOTED.sub(r'"\1"', ast.unparse(node))


def show_functions(stubs: tuple[Function, ...], *, is_method: bool) -> str:
    """Return the stubs of a function, its overloads one below the other.

    Args:
        stubs: its definitions.
        is_method: leave the first parameter out, and keep ``@classmethod`` and the like.
    """
    return "\n".join(_show(stub, is_method=is_method) for stub in stubs)


def show_member(member: Member) -> str:
    """Return a property or an attribute as an annotation, and a method as its stubs."""
    if member.attribute is not None:
        return show_attribute(member.attribute)
    if member.is_property:
        hint = member.stubs[-1].returns
        return f"{member.name}: {write(hint)}" if hint else f"{member.name}: object"
    return show_functions(member.stubs, is_method=True)


def show_attribute(node: Attribute) -> str:
    """Return an attribute with its hint and its default, if it has one."""
    if isinstance(node, ast.Assign):
        return write(node)
    text = f"{write(node.target)}: {write(node.annotation)}"
    default = default_of(node.value)
    return text if default is None else f"{text} = {default}"


def default_of(value: ast.expr | None) -> str | None:
    """Return the default that an attribute of a dataclass or a model is given; None for none."""
    if not isinstance(value, ast.Call) or write(value.func) not in {"field", "Field"}:
        return None if value is None else write(value)
    for keyword in value.keywords:
        if keyword.arg == "default":
            return write(keyword.value)
        if keyword.arg == "default_factory":
            return f"{write(keyword.value)}()"
    return write(value.args[0]) if value.args else None


def show_class(
    name: str, bases: list[str], attributes: list[str], constructor: Function | None
) -> str:
    """Return a class with its attributes, and its constructor where others than the library call it."""
    head = f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"
    body = list(attributes)
    if constructor is not None:
        # Shown with ``self``: in a class it would look wrong without.
        body += ["", *_show(constructor, is_method=False).splitlines()]
    if not body:
        return f"{head} ..."
    return "\n".join([head, *(f"{INDENT}{line}".rstrip() for line in body if line or attributes)])


def _show(stub: Function, *, is_method: bool) -> str:
    decorators = [name for name in DECORATORS if has_decorator(stub, name)]
    # One that yields is called without ``await``.
    is_awaited = isinstance(stub, ast.AsyncFunctionDef) and (
        not _yields(stub) or "asynccontextmanager" in decorators
    )
    word = "async def" if is_awaited else "def"
    returns = f" -> {write(stub.returns)}" if stub.returns else ""
    parameters = _parameters(stub.args)
    if is_method and "staticmethod" not in decorators:
        parameters = _drop_first(parameters)
    shown = _wrap(f"{word} {stub.name}(", parameters, f"){returns}: ...")
    return "\n".join([*(f"@{name}" for name in decorators), shown])


def _yields(stub: Function) -> bool:
    return any(isinstance(node, ast.Yield) for node in ast.walk(stub))


def _drop_first(parameters: list[str]) -> list[str]:
    rest = parameters[1:]
    return rest[1:] if rest[:1] == ["/"] else rest


def _wrap(head: str, parameters: list[str], tail: str) -> str:
    line = head + ", ".join(parameters) + tail
    if len(line) <= WIDTH:
        return line
    lines = [INDENT]
    for parameter in parameters:
        piece = f"{parameter}, "
        if len(lines[-1]) + len(piece) > WIDTH and lines[-1] != INDENT:
            lines.append(INDENT)
        lines[-1] += piece
    return "\n".join([head, *(each.rstrip() for each in lines), tail])


def _parameters(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    shown = [_parameter(each, default) for each, default in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        shown.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        shown.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [
        _parameter(each, default)
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        shown.append(f"**{_parameter(arguments.kwarg, None)}")
    return shown


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    if argument.annotation is None:
        return argument.arg if default is None else f"{argument.arg}={write(default)}"
    text = f"{argument.arg}: {write(argument.annotation)}"
    return text if default is None else f"{text} = {write(default)}"

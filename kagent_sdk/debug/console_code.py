"""Turn what is typed into the console into code. Pure.

Values are shown by a function of the console's own: the interactive mode of Python's compiler would
call ``sys.displayhook``, which belongs to the whole process.
"""

from __future__ import annotations

import ast
import codeop
import types

FILE_NAME = "<console>"
"""Stands in tracebacks; a frame of another file before it is ours, and not shown."""

SHOW = "__show__"
"""The name, in the console's variables, of the function that gets each value."""


def is_whole(source: str) -> bool:
    """Return whether a text can be run, or has an error; False while it goes on with the next line.

    Raises:
        SyntaxError, ValueError, OverflowError: it cannot become code.
    """
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compiler(source, FILE_NAME, "single") is not None


def compile_source(source: str) -> types.CodeType:
    """Return code that shows the value of each expression; a coroutine's where it awaits.

    Raises:
        SyntaxError, ValueError, OverflowError, RecursionError, MemoryError: it cannot become code.
    """
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(source, FILE_NAME, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    tree.body = [_shown(statement) for statement in tree.body]
    ast.fix_missing_locations(tree)
    code = compile(tree, FILE_NAME, "exec", flags, dont_inherit=True)
    assert isinstance(code, types.CodeType)
    return code


def _shown(statement: ast.stmt) -> ast.stmt:
    if not isinstance(statement, ast.Expr):
        return statement
    call = ast.Call(ast.Name(SHOW, ast.Load()), [statement.value], [])
    return ast.copy_location(ast.Expr(ast.copy_location(call, statement)), statement)

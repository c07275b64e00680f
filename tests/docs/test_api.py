"""The API page shows every public name as it is."""

from __future__ import annotations

import ast

import pytest

from tests.docs.api import api_page
from tests.docs.api_names import PACKAGES, Package
from tests.docs.docstrings import ExampleError, to_markdown
from tests.docs.reference import DOCS
from tests.docs.signatures import show_functions


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_public_name_has_an_entry(package: Package) -> None:
    """What is not on the page is not public: so everything that is must be there."""
    headings = (DOCS / "api.md").read_text().splitlines()

    assert [name for name in package.public if f"### `{name}`" not in headings] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_name_of_a_group_is_public(package: Package) -> None:
    """A group may outlive a name."""
    named = [name for group in package.groups for name in group.names]

    assert [name for name in named if name not in package.public] == []
    assert len(named) == len(set(named))


def test_every_entry_says_what_it_is() -> None:
    """A signature alone tells nobody why it is there."""
    parts = api_page().split("\n### ")[1:] + api_page().split("\n#### ")[1:]
    entries = [part.split("\n## ")[0] for part in parts]
    silent = [entry.splitlines()[0] for entry in entries if entry.count("\n\n") < 2]

    assert silent == ["`__version__`"]


def no_link(_: str) -> str | None:
    """Lead nowhere."""
    return None


def test_sections_become_lists_and_names_links() -> None:
    """Readers jump from a name to its entry."""
    docstring = (
        "Do it, with `Tool` and ``x_s``.\n\n- one\n  more\n- two\n\nArgs:\n    x_s: how long;\n"
        "        seconds.\n\nRaises:\n    Tool: it *broke*.\n    KeyError, ValueError: no."
    )

    text = to_markdown(docstring, {"Tool": "#tool"}.get)

    assert text == (
        "Do it, with [`Tool`](#tool) and `x_s`.\n\n- one more\n- two\n\n**Arguments:**\n\n"
        "- `x_s`: how long; seconds.\n\n**Raises:**\n\n- [`Tool`](#tool): it \\*broke\\*.\n"
        "- `KeyError`, `ValueError`: no."
    )


def test_examples_and_drawings_become_blocks() -> None:
    """An example is one that the pages' tests compile, a drawing stays as it is drawn."""
    docstring = "Use it::\n\n    await it\n\n    it()\n\nTree:\n\n::\n\n    a\n    └── b\n"

    assert to_markdown(docstring, no_link) == (
        "Use it:\n\n```pyi\nawait it\n\nit()\n```\n\nTree:\n\n```text\na\n└── b\n```"
    )


def test_an_example_that_is_no_python_is_an_error() -> None:
    """It would be copied."""
    with pytest.raises(ExampleError, match="in the example\ndo it"):
        to_markdown("Use it::\n\n    do it\n", no_link)


def stub_of(text: str) -> str:
    """Return how a method is shown."""
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return show_functions((node,), is_method=True)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("def f(self, /, a, *, b: 'int' = 1): ...", 'def f(a, *, b: "int" = 1): ...'),
        ("def f(self, *a: int, **b: str) -> None: ...", "def f(*a: int, **b: str) -> None: ..."),
        ("@classmethod\ndef f(cls) -> None: ...", "@classmethod\ndef f() -> None: ..."),
        ("@staticmethod\ndef f(a): ...", "@staticmethod\ndef f(a): ..."),
        ("async def f(self) -> None: ...", "async def f() -> None: ..."),
        ("async def f(self) -> AsyncIterator[int]: yield 1", "def f() -> AsyncIterator[int]: ..."),
        (
            "@asynccontextmanager\nasync def f(self) -> AsyncIterator[int]: yield 1",
            "@asynccontextmanager\nasync def f() -> AsyncIterator[int]: ...",
        ),
        (
            f"def f(self, {'a' * 40}: int, {'b' * 40}: int) -> int: ...",
            f"def f(\n    {'a' * 40}: int,\n    {'b' * 40}: int,\n) -> int: ...",
        ),
    ],
)
def test_a_method_is_shown_as_it_is_called(written: str, shown: str) -> None:
    """Readers copy from a signature how to call it."""
    assert stub_of(written) == shown

"""Which changes of an agent's folder are worth a reload."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from kagent_sdk.cli.changes import describe_changes, is_authors


@pytest.mark.parametrize(
    "path", ["entrypoint.py", "config.yaml", "shop/prices.py", "shop/runtime/a.py", "data/logs"]
)
def test_the_authors_files_count(path: str) -> None:
    """Whatever the author writes may change what the agent does."""
    assert is_authors(PurePath(path))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "runtime/data/x",
        "logs/runtime.log",
        "secrets/vault.json",
        ".git/index",
        "shop/.venv/lib/x.py",
        "shop/__pycache__/prices.cpython-311.pyc",
        "prices.pyc",
        "venv/x.py",
        "web/node_modules/x.js",
        ".entrypoint.py.swp",
        "entrypoint.py~",
    ],
)
def test_what_is_generated_does_not(path: str) -> None:
    """An agent that writes its own files must not reload itself for ever."""
    assert not is_authors(PurePath(path))


def test_few_changes_are_named_and_many_are_counted() -> None:
    """A checkout changes hundreds of files."""
    few = [PurePath("b.py"), PurePath("a.py"), PurePath("a.py")]
    many = [PurePath(f"{number}.py") for number in range(5)]

    assert describe_changes(few) == "a.py, b.py"
    assert describe_changes(many) == "0.py, 1.py, 2.py and 2 more"

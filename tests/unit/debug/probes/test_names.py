"""Names for people, of things that answer to nobody."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import click
import pytest

from kagent_sdk.debug.probes import names
from kagent_sdk.debug.probes.names import clean, is_author_file, short_file, type_module, type_name


class Secretive(type):
    """Does not say what its classes are called."""

    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError(name)


class Hidden(metaclass=Secretive):
    """Has a name all the same."""


def fail(_cls: type) -> str:
    """Be a property that cannot be read."""
    raise RuntimeError


Broken = type("Broken", (type,), {"__module__": property(fail)})


def test_types_are_called_by_module_and_name() -> None:
    """Two classes of one name are told apart."""
    odd = type("Odd", (), {"__module__": 7})

    assert type_name(dict) == "dict"
    assert type_name(Path) == "pathlib.Path"
    assert type_name(Hidden) == f"{__name__}.Hidden"
    assert type_name(Broken("Thing", (), {})) == "Thing"
    assert type_module(odd) == ""
    assert type_name(odd) == "Odd"


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    """A class may be called anything."""
    assert clean("a\x1b[31mb\nc é") == "a\\x1b[31mb\\nc é"
    assert clean("x" * 300) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("filename", "is_author"),
    [
        (__file__, True),
        ("/agent/entrypoint.py", True),
        (json.__file__, False),
        (click.__file__, False),
        (names.__file__, False),
        ("/agent/.venv/lib/python3.11/site-packages/click/core.py", False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_the_authors_files_are_told_from_libraries(filename: str, is_author: bool) -> None:
    """The line to look at is nearly always the author's."""
    assert is_author_file(filename) is is_author


def test_files_are_named_as_they_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the agent's folder."""
    monkeypatch.chdir(tmp_path)

    assert short_file(str(tmp_path / "triage" / "cache.py")) == "triage/cache.py"
    assert short_file(sysconfig.get_path("stdlib") + "/json/decoder.py") == "json/decoder.py"
    assert short_file(names.__file__) == "kagent_sdk/debug/probes/names.py"
    assert short_file("/elsewhere/a.py") == "/elsewhere/a.py"

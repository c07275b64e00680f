"""Lines of source."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from kagent_sdk.debug.probes.sources import class_place, read_line

SOURCE = '''\
class Plain:
    """Has no method."""


if True:
    class Twice:
        def first(self): ...


class Twice:
    def second(self): ...


class Outer:
    class Inner:
        def method(self): ...
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the source as a module."""
    path = tmp_path / "sourced.py"
    path.write_text(SOURCE)
    module = ModuleType("sourced")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "sourced", module)
    exec(compile(SOURCE, str(path), "exec"), vars(module))  # noqa: S102 - the test's own
    return module


@pytest.mark.parametrize(
    ("name", "line"), [("Plain", 1), ("Twice", 10), ("Outer", 14), ("Outer.Inner", 15)]
)
def test_a_class_is_found_where_it_is_written(module: ModuleType, name: str, line: int) -> None:
    """With its name alone one would search the whole program."""
    cls: object = module
    for part in name.split("."):
        cls = getattr(cls, part)

    assert isinstance(cls, type)
    assert class_place(cls) == (module.__file__, line)


@pytest.mark.usefixtures("module")
def test_a_class_that_is_not_in_a_file_has_no_place() -> None:
    """Builtins, and what was made at run time."""
    made = type("Made", (), {"__module__": "sourced"})
    lost = type("Plain", (), {"__module__": "nowhere"})

    assert class_place(dict) is None
    assert class_place(made) is None
    assert class_place(lost) is None


def test_the_line_of_newer_pythons_is_taken(module: ModuleType) -> None:
    """It is exact (Python 3.13)."""
    made = type("Made", (), {"__module__": "sourced", "__firstlineno__": 7})

    assert class_place(made) == (module.__file__, 7)


def test_a_line_is_read_without_its_indentation(tmp_path: Path) -> None:
    """A file that is gone, or shorter than it was, is no error."""
    path = tmp_path / "a.py"
    path.write_bytes(b"one\n    two \xff\x1b\n" + b"x" * 500)

    assert read_line(str(path), 2) == "two \ufffd\\x1b"
    assert len(read_line(str(path), 3)) == 160
    assert read_line(str(path), 4) == read_line(str(path), 0) == ""
    assert read_line(str(tmp_path / "b.py"), 1) == ""
    assert read_line("a\0b", 1) == ""

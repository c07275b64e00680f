"""Each house rule catches a planted offence: a checker that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.architecture.rules import FRONT, House, find_broken_rules
from tests.architecture.source import read_modules

FRONT_TEXT = '_HOMES = {"Low": "low"}\n__all__ = ["Low", "__version__"]\n'

HOUSE = House(
    package="planted",
    layers=(("low",), ("left", "right"), ("pair_a", "pair_b"), ("high",), (FRONT, "__main__")),
    open_layers=frozenset({2}),
    only={"right": frozenset()},
    foreign={"low": frozenset({"pydantic"})},
    banned={"low": frozenset({"asyncio"})},
)


def broken_rules(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Plant a package of empty rooms and the given files; return what the checker finds."""
    rooms = ["low", "left", "right", "pair_a", "pair_b", "high"]
    empty = {f"{room}.py": "" for room in rooms if f"{room}/__init__.py" not in files}
    planted = {**empty, "__init__.py": FRONT_TEXT, **files}
    for name, text in planted.items():
        path = folder / "planted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return find_broken_rules(read_modules(folder / "planted"), HOUSE)


def test_a_house_in_order_breaks_no_rule(tmp_path: Path) -> None:
    """Downward arrows of every form are free, or the checker would be noise."""
    found = broken_rules(
        tmp_path,
        {
            "high.py": "import planted.low\nfrom planted import Low, __version__, left\n",
            "left.py": "from .low import thing\nimport pydantic\n",
            "pair_a.py": "from planted.pair_b import thing\n",
            "low.py": "import json\nimport pydantic\n",
        },
    )

    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import planted.high\n",
        "from planted.high import thing\n",
        "from planted import high\n",
        "from . import high\n",
        "from .high import thing\n",
        "def late():\n    from planted import high\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted.high import thing\n",
        "import importlib\nimportlib.import_module('planted.high')\n",
        "from importlib import import_module\nimport_module('planted.high')\n",
        "__import__('planted.high')\n",
    ],
)
def test_an_upward_arrow_of_any_form_is_found(tmp_path: Path, text: str) -> None:
    """An import that hides in a function or behind TYPE_CHECKING couples rooms all the same."""
    found = broken_rules(tmp_path, {"left.py": text})

    assert len(found) == 1
    assert "imports planted.high: high is above left" in found[0]


def test_a_lazy_name_of_the_front_counts_as_its_home(tmp_path: Path) -> None:
    """`from planted import High` in a low room would be an upward arrow in disguise."""
    front = '_HOMES = {"High": "high"}\n__all__ = ["High", "__version__"]\n'

    found = broken_rules(tmp_path, {"__init__.py": front, "left.py": "from planted import High\n"})

    assert found == ["planted.left:1: imports planted.high: high is above left"]


def test_the_version_may_be_taken_from_the_front_and_nothing_else(tmp_path: Path) -> None:
    """`import planted` would open a way around every layer."""
    front = f"from planted.left import thing\n{FRONT_TEXT}"
    files = {"__init__.py": front, "left.py": "from planted import __version__\n"}

    assert broken_rules(tmp_path / "right", files) == []
    for text in ("import planted\n", "from planted import other\n"):
        found = broken_rules(tmp_path / "wrong", {"left.py": text})
        assert len(found) == 1
        assert "of the front take only __version__" in found[0]


def test_a_sideways_arrow_is_found(tmp_path: Path) -> None:
    """Host and worker are such rooms: they share only what lies below them."""
    found = broken_rules(tmp_path, {"left.py": "from planted import right\n"})

    assert found == ["planted.left:1: imports planted.right: right stands beside left"]


def test_a_room_that_may_import_less_than_its_layer_is_held_to_it(tmp_path: Path) -> None:
    """The sandbox runs before anything else may be imported."""
    found = broken_rules(tmp_path, {"right.py": "from planted import low\n"})

    assert found == ["planted.right:1: imports planted.low: right may import only "]


def test_an_arrow_at_nothing_is_found(tmp_path: Path) -> None:
    """A lazy import of a module that moved breaks only when somebody gets there."""
    found = broken_rules(tmp_path, {"high.py": "def late():\n    import planted.gone\n"})

    assert found == ["planted.high:2: imports planted.gone, which does not exist"]


def test_a_module_without_a_room_is_found(tmp_path: Path) -> None:
    """A new room needs a decision about its layer, not a gap in the rules."""
    found = broken_rules(tmp_path, {"shed/tools.py": "", "shed/__init__.py": ""})

    assert [line.split(";")[0] for line in found] == [
        "planted.shed: no room is called 'shed'",
        "planted.shed.tools: no room is called 'shed'",
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"pair_a.py": "import planted.pair_b\n", "pair_b.py": "import planted.pair_a\n"},
        {
            "high/__init__.py": "",
            "high/a.py": "from planted.high import b\n",
            "high/b.py": "from planted.high import c\n",
            "high/c.py": "def late():\n    from planted.high import a\n",
        },
    ],
)
def test_a_cycle_is_found_between_open_rooms_and_inside_one(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """Modules in a circle can be neither read nor tested nor changed one at a time."""
    found = broken_rules(tmp_path, files)

    assert len(found) == 1
    assert found[0].startswith("a cycle of imports: ")


@pytest.mark.parametrize("name", ["aiohttp", "asyncio"])
def test_a_foreign_import_that_a_room_must_do_without_is_found(tmp_path: Path, name: str) -> None:
    """One import of aiohttp would cost every worker 160 ms and 22 MB."""
    found = broken_rules(tmp_path, {"low.py": f"def late():\n    import {name}.part\n"})

    assert found == [f"planted.low:2: low must not import {name}"]


def test_a_file_over_500_lines_is_found(tmp_path: Path) -> None:
    """500 lines are fine, 501 are two ideas in one file."""
    found = broken_rules(tmp_path, {"low.py": "\n" * 500, "left.py": "\n" * 501})

    assert len(found) == 1
    assert found[0].endswith("left.py: 501 lines, over 500")


def test_a_function_over_60_lines_is_found_wherever_it_hides(tmp_path: Path) -> None:
    """60 lines are fine, 61 are not, in a method of a nested class either."""
    good = "def fits():\n" + "    x = 1\n" * 59
    bad = "class A:\n    class B:\n        async def grows(self):\n" + "            x = 1\n" * 60

    found = broken_rules(tmp_path, {"low.py": good, "left.py": bad})

    assert len(found) == 1
    assert found[0].endswith("left.py:3: grows has 61 lines, over 60")


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ('_HOMES = {"A": "low"}\n__all__ = ["__version__"]\n', "A stands in only one"),
        ('_HOMES = {}\n__all__ = ["A", "__version__"]\n', "A stands in only one"),
        ("_HOMES = {}\n__all__ = []\n", "__version__ stands in only one"),
        ('_HOMES = {"A": "gone"}\n__all__ = ["A", "__version__"]\n', "A, gone, does not exist"),
        ("__all__ = ['__version__']\n", "needs the literals"),
    ],
)
def test_a_front_that_lies_is_found(tmp_path: Path, front: str, expected: str) -> None:
    """A name in __all__ that cannot be imported breaks `from kagent_sdk import *` for users."""
    found = broken_rules(tmp_path, {"__init__.py": front})

    assert len(found) == 1
    assert expected in found[0]

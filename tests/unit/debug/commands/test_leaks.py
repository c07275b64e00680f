"""Leaks that are planted are found by the commands alone: by type, file and line."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.debug.sessions import Console, make_console

SOURCE = Path(__file__).parents[3] / "integration" / "leaky" / "leaks.py"
FILE = "tests/integration/leaky/leaks.py"
MIB = 1 << 20
PATIENTLY = ("--seconds", "60")
"""On a machine that is busy with other things."""


def line_of(text: str) -> int:
    """Return the only line of the source that holds a text."""
    found = [n for n, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line]
    assert len(found) == 1, text
    return found[0]


@pytest.fixture
def leaks() -> Iterator[ModuleType]:
    """Load the module that leaks; what it has leaked is given back afterwards."""
    spec = importlib.util.spec_from_file_location("leaks", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["leaks"] = importlib.util.module_from_spec(spec)
    gc.collect()
    gc.freeze()  # what pytest holds is not looked at: the walk stays short
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["leaks"]
        module.SEEN.clear()
        gc.unfreeze()


@pytest.fixture
def traced() -> Iterator[Console]:
    """Return a console whose process is traced."""
    console = make_console()
    console.run("memory", "start", "--frames", "2")
    yield console
    console.run("memory", "stop")


def test_a_growing_dictionary_is_found(leaks: ModuleType, traced: Console) -> None:
    """The most frequent leak of all: what is put into a cache and never taken out."""
    traced.run("memory", *PATIENTLY)
    leaks.remember(300)
    grown = traced.read("memory", *PATIENTLY)["growth"]
    lines = traced.read("memory", "diff")["lines"]
    chains = traced.read("referrers", "Digest", *PATIENTLY)

    assert grown[0]["type"] == "leaks.Digest"
    assert grown[0]["count"] == 300
    assert grown[0]["bytes"] > 300 * 30 * 50
    assert (lines[0]["file"], lines[0]["line"]) == (FILE, line_of("text.split()"))
    assert lines[0]["source"] == "self.words = text.split()"
    assert chains["target"] == f"leaks.Digest ({FILE}:{line_of('class Digest')})"
    assert chains["chains"] == [
        {
            "count": 300,
            "steps": ["module leaks.SEEN", "dict['document 0']", "leaks.Digest"],
        }
    ]
    assert chains["unreached"] == 0


def test_cycles_with_a_finalizer_are_found(leaks: ModuleType, traced: Console) -> None:
    """Reference counting never frees them, and nothing in Python leads to them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        leaks.tie(200)
        lines = traced.read("memory", "diff")["lines"]
        found = traced.read("gc", "cycles")
    finally:
        if was_enabled:
            gc.enable()

    assert (FILE, line_of("one, other = Node(), Node()")) in [
        (line["file"], line["line"]) for line in lines[:3]
    ]
    assert found["types"][0] == {
        "type": "leaks.Node",
        "count": 400,
        "is_linked": True,
        "has_finalizer": True,
        "file": FILE,
        "line": line_of("class Node"),
    }
    assert gc.garbage == []
    assert not [thing for thing in gc.get_objects() if type(thing) is leaks.Node]


def test_buffers_that_c_code_holds_are_found(leaks: ModuleType, traced: Console) -> None:
    """No referrer shows them: they are seen by type, and by the line that made them."""
    traced.run("memory", *PATIENTLY)
    leaks.keep_in_c(4, MIB)
    buffers = [thing for thing in gc.get_objects() if isinstance(thing, ctypes.Array)]
    grown = traced.read("memory", *PATIENTLY)
    lines = traced.read("memory", "diff")["lines"]
    for buffer in buffers:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(buffer))

    assert grown["growth"][0]["type"] == f"ctypes.c_char_Array_{MIB}"
    assert grown["growth"][0]["count"] == 4
    assert grown["process"]["buffers_bytes"] - grown["process_before"]["buffers_bytes"] >= 4 * MIB
    assert (lines[0]["file"], lines[0]["line"]) == (FILE, line_of("create_string_buffer"))
    assert lines[0]["bytes"] >= 4 * MIB


def test_memory_of_which_python_knows_nothing_shows_as_such(leaks: ModuleType) -> None:
    """When it grows and the types do not, C code leaks: the search goes on in the right place."""
    console = make_console()
    console.read("memory", *PATIENTLY)
    free = ctypes.CDLL(None).free
    kept: list[int] = []
    leaks.allocate(8, MIB, kept)
    found = console.read("memory", *PATIENTLY)
    for address in kept:
        free(ctypes.c_void_p(address))
    before, after = found["process_before"], found["process"]

    assert 7.5 * MIB <= after["outside_bytes"] - before["outside_bytes"] < 10 * MIB
    assert after["python_bytes"] - before["python_bytes"] < MIB

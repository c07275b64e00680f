"""The house rules, and the pure functions that find what breaks them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.architecture.source import (
    Arrow,
    Module,
    iter_arrows,
    iter_foreign,
    iter_functions,
    read_literal,
)

FRONT = "__init__"
"""The room of the package's own ``__init__.py``: names, lazily re-exported, and the version."""

VERSION = "__version__"
"""What any room may take from the front; everything else there lives elsewhere."""

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True, slots=True)
class House:
    """Which rooms a package has and who may import whom.

    Attributes:
        package: its import name.
        layers: from the ground up; a room may import the rooms of lower layers.
        open_layers: rooms of these may import each other too, without a cycle.
        only: rooms that may import less than their layer allows.
        foreign: what a room may import from outside the standard library; a room that is not
            named may import anything.
        banned: parts of the standard library that a room must do without.
    """

    package: str
    layers: Sequence[Sequence[str]]
    open_layers: frozenset[int] = frozenset()
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    foreign: Mapping[str, frozenset[str]] = field(default_factory=dict)
    banned: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def room_of(self, module_name: str) -> str:
        """Return the room that a module lies in."""
        parts = module_name.split(".")
        return parts[1] if len(parts) > 1 else FRONT

    def layer_of(self, room: str) -> int | None:
        """Return the layer of a room; None when the house does not know it."""
        for number, rooms in enumerate(self.layers):
            if room in rooms:
                return number
        return None


_VALIDATION = frozenset({"pydantic", "pydantic_core", "annotated_types", "typing_extensions"})

KAGENT_HOUSE = House(
    package="kagent_sdk",
    layers=(
        ("errors",),
        ("protocol",),
        ("capability", "config", "context", "typed_secrets"),
        ("storage", "redaction", "interrupts"),
        ("journal", "state", "link", "sandbox", "debug"),
        ("snapshots",),
        ("host", "worker"),
        ("agent", "orchestrator", "deploy"),
        ("cli", "testing"),
        (FRONT, "__main__"),
    ),
    open_layers=frozenset({2}),
    only={"sandbox": frozenset({"errors"})},
    foreign={
        "errors": frozenset(),
        "sandbox": frozenset(),
        "protocol": _VALIDATION,
        "capability": _VALIDATION,
        "context": _VALIDATION | {"structlog"},
        "typed_secrets": _VALIDATION,
        "storage": frozenset(),
        "interrupts": frozenset(),
        "journal": frozenset(),
        "state": _VALIDATION,
        "worker": _VALIDATION | {"structlog"},
        "agent": _VALIDATION,
        FRONT: frozenset(),
    },
    banned={
        "errors": frozenset(sys.stdlib_module_names) - {"__future__", "typing"},
        # Pure: bytes and models in, bytes and models out; the clock is passed in.
        "protocol": frozenset(
            {"asyncio", "os", "random", "signal", "socket", "subprocess", "threading", "time"}
        ),
    },
)


def find_broken_rules(modules: Mapping[str, Module], house: House) -> list[str]:
    """Return one line for everything that breaks a rule; empty when the house is in order."""
    arrows = list(iter_arrows(modules, house.package))
    return [
        *find_unknown_rooms(modules, house),
        *find_wrong_arrows(arrows, modules, house),
        *find_cycles([arrow for arrow in arrows if arrow.target != house.package]),
        *find_foreign_imports(modules, house),
        *find_big_files(modules.values()),
        *find_long_functions(modules.values()),
        *find_untrue_front(modules, house),
    ]


def find_unknown_rooms(modules: Mapping[str, Module], house: House) -> Iterator[str]:
    """Find modules that lie in no room of the house."""
    for name in modules:
        room = house.room_of(name)
        if house.layer_of(room) is None:
            yield f"{name}: no room is called {room!r}; name it in tests/architecture/rules.py"


def find_wrong_arrows(
    arrows: Sequence[Arrow], modules: Mapping[str, Module], house: House
) -> Iterator[str]:
    """Find imports that point up, sideways, or at nothing."""
    lines: dict[str, None] = {}
    for arrow in arrows:
        where = f"{arrow.source}:{arrow.line}: imports {arrow.target}"
        if arrow.target not in modules:
            lines[f"{where}, which does not exist"] = None
        elif reason := _forbidden(arrow, house):
            lines[f"{where}: {reason}"] = None
    yield from lines


def _forbidden(arrow: Arrow, house: House) -> str | None:
    source, target = house.room_of(arrow.source), house.room_of(arrow.target)
    below, above = house.layer_of(target), house.layer_of(source)
    if target == FRONT and arrow.name != VERSION:
        return f"of the front take only {VERSION}; import the rest from where it lives"
    if below is None or above is None or target in {source, FRONT}:
        return None
    if below > above:
        return f"{target} is above {source}"
    if below == above and below not in house.open_layers:
        return f"{target} stands beside {source}"
    if source in house.only and target not in house.only[source]:
        return f"{source} may import only {', '.join(sorted(house.only[source]))}"
    return None


def find_cycles(arrows: Sequence[Arrow]) -> Iterator[str]:
    """Find groups of modules that import each other in a circle (Tarjan's components)."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        graph.setdefault(arrow.source, set()).add(arrow.target)
        graph.setdefault(arrow.target, set())
    for component in _components(graph):
        if len(component) > 1 or component[0] in graph[component[0]]:
            yield f"a cycle of imports: {', '.join(sorted(component))}"


def _components(graph: Mapping[str, set[str]]) -> list[list[str]]:
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        numbers[node] = lowest[node] = len(numbers)
        open_nodes.append(node)
        for following in sorted(graph[node]):
            if following not in numbers:
                visit(following)
                lowest[node] = min(lowest[node], lowest[following])
            elif following in open_nodes:
                lowest[node] = min(lowest[node], numbers[following])
        if lowest[node] == numbers[node]:
            start = open_nodes.index(node)
            components.append(open_nodes[start:])
            del open_nodes[start:]

    for node in sorted(graph):
        if node not in numbers:
            visit(node)
    return components


def find_foreign_imports(modules: Mapping[str, Module], house: House) -> Iterator[str]:
    """Find imports from outside the package that a room must do without."""
    for module in modules.values():
        room = house.room_of(module.name)
        for top, line in iter_foreign(module, house.package):
            is_standard = top in sys.stdlib_module_names
            allowed = house.foreign.get(room, {top})
            if top in house.banned.get(room, ()) or not (is_standard or top in allowed):
                yield f"{module.name}:{line}: {room} must not import {top}"


def find_big_files(modules: Iterable[Module]) -> Iterator[str]:
    """Find files over `MAX_FILE_LINES`."""
    for module in modules:
        if module.line_count > MAX_FILE_LINES:
            yield f"{module.path}: {module.line_count} lines, over {MAX_FILE_LINES}"


def find_long_functions(modules: Iterable[Module]) -> Iterator[str]:
    """Find functions over `MAX_FUNCTION_LINES`."""
    for module in modules:
        for name, line, lines in iter_functions(module):
            if lines > MAX_FUNCTION_LINES:
                yield f"{module.path}:{line}: {name} has {lines} lines, over {MAX_FUNCTION_LINES}"


def find_untrue_front(modules: Mapping[str, Module], house: House) -> Iterator[str]:
    """Find differences between ``__all__`` and the lazily exported names, and homes that lie."""
    front = modules.get(house.package)
    homes = read_literal(front, "_HOMES") if front else None
    exported = read_literal(front, "__all__") if front else None
    if not isinstance(homes, dict) or not isinstance(exported, list):
        yield f"{house.package}: __init__.py needs the literals _HOMES and __all__"
        return
    for name in sorted({*homes, "__version__"} ^ set(exported)):
        yield f"{house.package}: {name} stands in only one of _HOMES and __all__"
    for name, home in sorted(homes.items()):
        if f"{house.package}.{home}" not in modules:
            yield f"{house.package}: the home of {name}, {home}, does not exist"

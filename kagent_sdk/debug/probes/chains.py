"""Why an object is alive: the shortest chains that lead to it from where Python begins."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import Any

from kagent_sdk.debug.probes.budget import Budget
from kagent_sdk.debug.probes.edges import (
    EdgeNamer,
    describe_frame,
    is_frame,
    isinstance_of,
    name_local,
    variables_of,
)
from kagent_sdk.debug.probes.names import clean, is_author_file, type_name

MAX_DEPTH = 60
MAX_TARGETS = 200_000
"""Instances that are counted; of more the first ones stand for all."""

_LEAVES = frozenset(
    {int, float, complex, bool, type(None), str, bytes, CodeType, BuiltinFunctionType}
)
_OURS = "kagent_sdk.debug"


@dataclass(frozen=True, slots=True)
class Root:
    """Where a chain begins: ``thing`` is alive because the interpreter holds it."""

    name: str
    thing: object


@dataclass(frozen=True, slots=True)
class Chain:
    """Why some objects are alive.

    Attributes:
        count: objects that the last but one step holds.
        steps: from the root to one of the objects.
    """

    count: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chains:
    """What was found.

    Attributes:
        found: objects in all.
        chains: those that hold most first.
        unreached: objects to which no chain leads.
        holders: of those, what refers to them: names of types, with what they hold them by.
        cut: why not everything was looked at: what is unreached may be reached after all.
    """

    found: int
    chains: tuple[Chain, ...]
    unreached: int
    holders: tuple[tuple[str, int], ...]
    cut: str | None


class ChainFinder:
    """Walks from the roots to the objects in question, breadth first.

    Args:
        is_wanted: whether an object is one of them.
        namer: names the steps.
        budget: how much may be looked at.
    """

    def __init__(
        self, is_wanted: Callable[[object], bool], namer: EdgeNamer, budget: Budget
    ) -> None:
        self._is_wanted = is_wanted
        self._namer = namer
        self._budget = budget
        # By number in the order of the walk: the object's parent. A list of objects would keep
        # everything alive, a dictionary of identities would cost 200 bytes for each.
        self._parents = array("q")
        self._ids = array("Q")
        self._hits: list[tuple[int, int]] = []

    def find(self, roots: Iterable[Root], wanted: list[object], limit: int) -> Chains:
        """Return the chains to the objects ``wanted``; at most ``limit`` of them."""
        all_roots = list(roots)
        seen = self._walk(all_roots)
        unreached = [thing for thing in wanted if id(thing) not in seen]
        groups = Counter(parent for parent, _ in self._hits)
        example = dict(reversed(self._hits))
        chains = [
            Chain(count, tuple(self._steps(all_roots, parent, example[parent])))
            for parent, count in groups.most_common(limit)
        ]
        return Chains(
            len(wanted),
            tuple(chains),
            len(unreached),
            tuple(_holders(unreached, wanted, self._namer)),
            self._budget.cut,
        )

    def _walk(self, roots: list[Root]) -> set[int]:
        seen: set[int] = {id(roots), id(self._hits), id(self)}
        queue: deque[tuple[int, int, object]] = deque()
        for number, root in enumerate(roots):
            if id(root.thing) not in seen:
                seen.add(id(root.thing))
                queue.append((self._note(root.thing, -1 - number), 0, root.thing))
        while queue:
            number, depth, thing = queue.popleft()
            if not self._budget.take():
                break
            if depth >= MAX_DEPTH:
                continue
            for other in gc.get_referents(thing):
                is_leaf = type(other) in _LEAVES
                if id(other) in seen or (is_leaf and not self._is_wanted(other)):
                    continue
                seen.add(id(other))
                if self._is_wanted(other) and len(self._hits) < MAX_TARGETS:
                    self._hits.append((number, id(other)))
                if not is_leaf and not _is_ours(other):
                    queue.append((self._note(other, number), depth + 1, other))
        return seen

    def _note(self, thing: object, parent: int) -> int:
        self._ids.append(id(thing))
        self._parents.append(parent)
        return len(self._ids) - 1

    def _steps(self, roots: list[Root], number: int, held_id: int) -> Iterator[str]:
        """Yield the words for a chain; the objects are found anew, from the root down."""
        idents = [held_id]
        while number >= 0:
            idents.append(self._ids[number])
            number = self._parents[number]
        root = roots[-1 - number]
        idents.reverse()
        yield from self._name_steps(root, idents[1:])

    def _name_steps(self, root: Root, idents: list[int]) -> Iterator[str]:
        holder, owner, words = root.thing, root.thing, root.name
        for ident in idents:
            held = next((other for other in gc.get_referents(holder) if id(other) == ident), None)
            if held is None:
                yield words
                yield "… (it has changed meanwhile)"
                return
            if _is_own_dictionary(holder, held):
                holder = held  # no step of its own: its keys are its owner's attributes
                continue
            step, words = self._name_step(words, owner, held)
            yield step
            holder = owner = held
        yield words

    def _name_step(self, words: str, holder: object, held: object) -> tuple[str, str]:
        """Return the words for ``holder``, now whole, and those that begin ``held``."""
        found = name_local(holder, held) if is_frame(holder) else None
        if found is None:
            return f"{words}{self._namer.name(holder, held)}", _say(held)
        variable, frame = found
        step = f"{words} at {describe_frame(frame)}"
        return step, f"its local {variable} = {_say(held)}" if variable else _say(held)


def default_roots(loop: asyncio.AbstractEventLoop | None) -> Iterator[Root]:
    """Yield the author's modules, the jobs, the threads' frames, then all other modules."""
    modules = [
        (name, module)
        for name, module in list(sys.modules.items())
        if isinstance_of(module, ModuleType) and not name.startswith(_OURS)
    ]
    authors = [item for item in modules if _is_authors(item[1])]
    for name, module in authors:
        yield Root(f"module {clean(name)}", module)
    if loop is not None:
        for job in _jobs(loop):
            yield Root(f"job {clean(job.get_name())}", job)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way
        if ident != threading.get_ident():
            yield from _frame_roots(clean(names.get(ident, str(ident))), frame)
    for name, module in modules:
        yield Root(f"module {clean(name)}", module)


def _frame_roots(thread: str, frame: Any) -> Iterator[Root]:
    for _ in range(MAX_DEPTH):
        if frame is None:
            return
        if not str(frame.f_globals.get("__name__", "")).startswith(_OURS):
            yield Root(f"thread {thread}", frame)
        frame = frame.f_back


def _jobs(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    try:
        return sorted(asyncio.all_tasks(loop), key=lambda job: job.get_name())
    except RuntimeError:
        return []  # they changed too fast; the loop's thread leads to most of them


def _is_authors(module: ModuleType) -> bool:
    filename = ModuleType.__getattribute__(module, "__dict__").get("__file__")
    return type(filename) is str and is_author_file(filename)


def _is_ours(thing: object) -> bool:
    return type(thing).__module__ == "kagent_sdk.debug.probes.chains"


def _is_own_dictionary(holder: object, held: object) -> bool:
    if type(held) is not dict or is_frame(holder):
        return False
    if isinstance_of(holder, type):
        return "__module__" in held and "__doc__" in held  # seen through a proxy only
    return variables_of(holder) is held


def _say(thing: object) -> str:
    cls = type(thing)
    if isinstance_of(thing, type):
        return f"class {type_name(thing)}"  # type: ignore[arg-type]
    name = getattr(thing, "__qualname__", None) if cls.__name__ in {"function", "method"} else None
    if isinstance_of(thing, ModuleType):
        name = ModuleType.__getattribute__(thing, "__dict__").get("__name__")
    return f"{type_name(cls)} {clean(name)}" if type(name) is str else type_name(cls)


def _holders(
    unreached: list[object], wanted: list[object], namer: EdgeNamer
) -> list[tuple[str, int]]:
    """Say what refers to some objects that no chain leads to, by type."""
    some = unreached[:20]
    if not some:
        return []
    own = {id(unreached), id(wanted), id(some)}
    counts: Counter[str] = Counter()
    for holder in gc.get_referrers(*some):
        if id(holder) in own or type(holder).__name__ == "frame":
            continue
        held = {id(other) for other in gc.get_referents(holder)}
        for thing in some:
            if id(thing) in held:
                counts[f"{_say(holder)}{namer.name(holder, thing)}"] += 1
    return counts.most_common(10)

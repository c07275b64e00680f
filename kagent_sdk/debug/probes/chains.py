"""Why an object is alive: the shortest chains that lead to it from where Python begins."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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

MAX_STEPS = 30
"""Of a chain that are shown."""

MAX_FRAMES = 200
"""Of a thread's stack, from the innermost on."""

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
        count: objects that the last but one step holds, and others that hang from those.
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
        # By number in the order of the walk: the object, its parent, and the object that holds the
        # first of those in question above it (-1: there is none). A list of objects would keep
        # everything alive, a dictionary of identities would cost 200 bytes for each.
        self._ids = array("Q")
        self._parents = array("q")
        self._heads = array("q")
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, int] = {}

    def find(self, roots: Iterable[Sequence[Root]], wanted: list[object], limit: int) -> Chains:
        """Return the chains to the objects ``wanted``; at most ``limit`` of them.

        Args:
            roots: in groups; one is exhausted before the next begins.
            wanted: all of them; the walk ends when it has found them.
            limit: chains.
        """
        groups = [list(group) for group in roots]
        missing = set(map(id, wanted))
        self._walk(groups, missing)
        unreached = [thing for thing in wanted if id(thing) in missing]
        all_roots = [root for group in groups for root in group]
        chains = [
            Chain(count, tuple(self._steps(all_roots, holder, self._examples[holder])))
            for holder, count in self._counts.most_common(limit)
        ]
        return Chains(
            len(wanted),
            tuple(chains),
            len(unreached),
            tuple(_holders(unreached, wanted, self._namer)),
            self._budget.cut,
        )

    def _walk(self, groups: list[list[Root]], missing: set[int]) -> None:
        """Walk until all are found, taking them out of ``missing``, or there is nothing more."""
        things = [root.thing for group in groups for root in group]
        # No chain leads from one root into another: a function knows all of its module.
        own = {id(thing): id(variables_of(thing)) for thing in things if _is_module(thing)}
        seen = {id(groups), id(self), id(missing), id(things), *map(id, things), *own.values()}
        number = 0
        for group in groups:
            queue: deque[tuple[int, object]] = deque()
            for root in group:
                number += 1
                queue.append((self._note(root.thing, -number, -1), root.thing))
            self._exhaust(queue, seen, own, missing)

    def _exhaust(
        self,
        queue: deque[tuple[int, object]],
        seen: set[int],
        own: dict[int, int],
        missing: set[int],
    ) -> None:
        while queue and missing and self._budget.take():
            number, thing = queue.popleft()
            variables = own.get(id(thing))
            for other in gc.get_referents(thing):
                if id(other) in seen and id(other) != variables:
                    continue
                is_wanted = self._is_wanted(other)
                is_leaf = type(other) in _LEAVES
                if is_leaf and not is_wanted:
                    continue
                seen.add(id(other))
                head = self._heads[number]
                if is_wanted:
                    missing.discard(id(other))
                    head = self._count(number if head < 0 else head, other)
                if not is_leaf and not _is_ours(other):
                    queue.append((self._note(other, number, head), other))

    def _count(self, holder: int, thing: object) -> int:
        self._counts[holder] += 1
        self._examples.setdefault(holder, id(thing))
        return holder

    def _note(self, thing: object, parent: int, head: int) -> int:
        self._ids.append(id(thing))
        self._parents.append(parent)
        self._heads.append(head)
        return len(self._ids) - 1

    def _steps(self, roots: list[Root], number: int, held_id: int) -> list[str]:
        """Return the words for a chain; the objects are found anew, from the root down."""
        idents = [held_id]
        while number >= 0:
            idents.append(self._ids[number])
            number = self._parents[number]
        idents.reverse()
        steps = list(self._name_steps(roots[-1 - number], idents[1:]))
        if len(steps) <= MAX_STEPS:
            return steps
        half = MAX_STEPS // 2
        return [*steps[:half], f"… {len(steps) - 2 * half} steps …", *steps[-half:]]

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


def default_roots(loop: asyncio.AbstractEventLoop | None) -> Iterator[list[Root]]:
    """Yield the author's modules, then jobs and the threads' frames, then all other modules."""
    authors: list[Root] = []
    others: list[Root] = []
    seen: set[int] = set()
    for name, module in list(sys.modules.items()):
        is_known = id(module) in seen or not _is_module(module)
        seen.add(id(module))
        if not is_known and not name.startswith(_OURS):
            part = authors if _is_authors(module) else others
            part.append(Root(f"module {clean(name)}", module))
    yield authors
    jobs = [] if loop is None else _jobs(loop)
    roots = [Root(f"job {clean(job.get_name())}", job) for job in jobs]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - the documented way
    frames.pop(threading.get_ident(), None)  # a frame that refers to itself is a cycle
    for ident, frame in frames.items():
        roots += _frame_roots(clean(names.get(ident, str(ident))), frame)
    yield roots
    yield others


def _frame_roots(thread: str, frame: Any) -> Iterator[Root]:
    for _ in range(MAX_FRAMES):
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


def _is_module(thing: object) -> bool:
    return isinstance_of(thing, ModuleType)


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

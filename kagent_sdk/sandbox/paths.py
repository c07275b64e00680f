"""From the paths of a policy to rules for single files and folders. Pure: listing is passed in.

Landlock adds rights from the root down, and takes none away: a folder that is hidden inside one that
may be read is made by granting the children of that folder one by one, and so on along the way to it.
What lies beside the way keeps its rights; what is made there later has none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Children = Callable[[str], Iterable[tuple[str, bool]]]
    """Returns the names in a folder, and whether each is a symbolic link; nothing for a file."""

LIST = 1
"""The names in a folder and below may be listed."""
READ = 2
WRITE = 4
EXECUTE = 8
DEVICE = 16
"""A device may be told to do things (ioctl(2)), beyond reading and writing."""

MAX_ENTRIES = 10_000
"""Entries of a folder that has to be granted child by child: each costs a rule (5 µs)."""


class UnruleableError(ValueError):
    """The paths of a policy contradict each other, or need too many rules."""


def make_rules(
    read: Iterable[str],
    write: Iterable[str],
    execute: Iterable[str],
    hidden: Iterable[str],
    children: Children,
) -> dict[str, int]:
    """Return what is allowed at which path and below it, as a sum of `LIST` to `EXECUTE`.

    All paths are absolute and without links. The longest one decides: what is granted inside
    something hidden is granted. Along the way to something hidden only `LIST` is: the names there,
    and the names in what is hidden, may be seen, and nothing be read.

    Raises:
        UnruleableError: something executable lies in something writable; or too many entries lie
            beside something hidden.
    """
    write, execute, hidden = tuple(write), tuple(execute), tuple(hidden)
    for path in execute:
        for folder in write:
            if is_within(path, folder):
                raise UnruleableError(
                    f"{path} may be executed and lies in {folder}, which may be written"
                )
    rules: dict[str, int] = {}
    for path in read:
        _grant(rules, path, LIST | READ, hidden, children)
    for path in write:
        _grant(rules, path, LIST | READ | WRITE, hidden, children)
    # What is written may not be executed, also where it lies in a folder of programs.
    for path in execute:
        _grant(rules, path, LIST | READ | EXECUTE, (*hidden, *write), children)
    return rules


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it."""
    return path == folder or path.startswith(folder if folder.endswith("/") else f"{folder}/")


def _grant(
    rules: dict[str, int], path: str, access: int, hidden: tuple[str, ...], children: Children
) -> None:
    if path in hidden:
        return
    inside = tuple(one for one in hidden if is_within(one, path))
    if not inside:
        rules[path] = rules.get(path, 0) | access
        return
    rules[path] = rules.get(path, 0) | LIST
    for count, (name, is_link) in enumerate(children(path)):
        if count >= MAX_ENTRIES:
            raise UnruleableError(
                f"{path} has more than {MAX_ENTRIES} entries beside {inside[0]}, which is hidden"
            )
        # A link has no rights of its own, and the rule would be for what it points to.
        if not is_link:
            _grant(rules, f"{path.rstrip('/')}/{name}", access, inside, children)

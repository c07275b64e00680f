"""Tests of `kagent_sdk.sandbox.paths`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from kagent_sdk.sandbox.paths import (
    EXECUTE,
    LIST,
    MAX_ENTRIES,
    READ,
    WRITE,
    UnruleableError,
    is_within,
    make_rules,
)

Tree = dict[str, list[tuple[str, bool]]]

AGENT: Tree = {
    "/agent": [
        ("entrypoint.py", False),
        ("lib", False),
        ("link", True),
        ("runtime", False),
        ("secrets", False),
    ],
    "/agent/lib": [("a.py", False), ("keys", False)],
    "/": [("agent", False), ("usr", False)],
}


def listing(tree: Tree) -> Callable[[str], Iterable[tuple[str, bool]]]:
    """Return a function that lists a made-up tree."""
    return lambda path: tree.get(path, [])


def rules(
    *,
    read: tuple[str, ...] = (),
    write: tuple[str, ...] = (),
    execute: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
) -> dict[str, int]:
    """Return the rules for a policy on `AGENT`."""
    return make_rules(read, write, execute, hidden, listing(AGENT))


def test_a_path_gets_what_the_policy_says() -> None:
    """The plain case: one rule a path."""
    made = rules(read=("/agent",), write=("/data",), execute=("/usr",))

    assert made == {
        "/agent": LIST | READ,
        "/data": LIST | READ | WRITE,
        "/usr": LIST | READ | EXECUTE,
    }


def test_rights_to_the_same_path_add_up() -> None:
    """An interpreter's folder may be named as readable and as executable."""
    assert rules(read=("/usr",), execute=("/usr",)) == {"/usr": LIST | READ | EXECUTE}


def test_what_is_hidden_is_left_out_and_its_neighbours_are_granted() -> None:
    """Landlock takes nothing away, and the vault lies in the agent's folder."""
    made = rules(read=("/agent",), hidden=("/agent/secrets", "/agent/runtime"))

    assert made == {
        "/agent": LIST,
        "/agent/entrypoint.py": LIST | READ,
        "/agent/lib": LIST | READ,
    }


def test_something_hidden_deep_down_costs_only_the_folders_on_the_way() -> None:
    """What lies beside the way keeps whole folders."""
    made = rules(read=("/",), hidden=("/agent/lib/keys",))

    assert made == {
        "/": LIST,
        "/usr": LIST | READ,
        "/agent": LIST,
        "/agent/entrypoint.py": LIST | READ,
        "/agent/runtime": LIST | READ,
        "/agent/secrets": LIST | READ,
        "/agent/lib": LIST,
        "/agent/lib/a.py": LIST | READ,
    }


def test_a_link_beside_something_hidden_gets_no_rule() -> None:
    """The rule would be for what the link points to: /etc/shadow, say."""
    assert "/agent/link" not in rules(read=("/agent",), hidden=("/agent/runtime",))


def test_a_grant_inside_something_hidden_stands() -> None:
    """runtime/ is the host's, and runtime/data in it the worker's."""
    made = rules(write=("/agent/runtime/data",), hidden=("/agent/runtime",))

    assert made == {"/agent/runtime/data": LIST | READ | WRITE}


def test_what_is_itself_hidden_gets_nothing() -> None:
    """The same path in both lists is a mistake, and the safe reading is no."""
    assert rules(read=("/agent/secrets",), hidden=("/agent/secrets",)) == {}


def test_what_may_be_written_is_not_executed_inside_a_folder_of_programs() -> None:
    """Else a worker could put a program there and run it."""
    made = rules(execute=("/agent",), write=("/agent/runtime",))

    assert made["/agent/runtime"] == LIST | READ | WRITE
    assert made["/agent"] == LIST
    assert made["/agent/lib"] == LIST | READ | EXECUTE


@pytest.mark.parametrize("program", ["/data", "/data/bin"])
def test_a_program_inside_what_may_be_written_is_refused(program: str) -> None:
    """Both cannot be had; silence would give up one of them."""
    with pytest.raises(UnruleableError, match=rf"{program} may be executed and lies in /data"):
        rules(execute=(program,), write=("/data",))


def test_too_many_neighbours_of_something_hidden_are_refused() -> None:
    """Each costs a rule, and the start of an agent may not take seconds."""
    tree: Tree = {"/big": [(f"{number}", False) for number in range(MAX_ENTRIES + 1)]}

    with pytest.raises(UnruleableError, match="/big has more than 10000 entries beside /big/0"):
        make_rules(("/big",), (), (), ("/big/0",), listing(tree))


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
        ("/", "/", True),
    ],
)
def test_a_folder_holds_what_is_below_it(path: str, folder: str, *, expected: bool) -> None:
    """/agent-keys is not in /agent."""
    assert is_within(path, folder) is expected

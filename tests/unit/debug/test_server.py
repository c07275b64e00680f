"""The debug server, over real socketpairs."""

from __future__ import annotations

from tests.unit.debug.rig import Rig


def test_one_command_prints_and_ends_with_its_code(rig: Rig) -> None:
    """Scripts read its stdout and its code."""
    client = rig.command("say", "hello\n")

    assert client.finish() == 0
    assert client.out == "hello\n"
    assert client.commands == ["say 'hello\n'"]
    assert client.ends == [1]


def test_the_terminal(rig: Rig) -> None:
    client = rig.terminal()
    client.type("say --l\t there\r")
    client.expect("THERE")
    client.type("ps\r")
    client.expect("COROUTINE")
    client.expect("clerk › ")
    client.type("exit\r")
    assert client.finish() == 0

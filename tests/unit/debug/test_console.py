"""The Python console of a debug session."""

from __future__ import annotations

from kagent_sdk.protocol.debug import Kind
from tests.unit.debug.rig import MASK, SECRET, Rig


def test_code_runs_in_the_agents_loop(rig: Rig) -> None:
    """The author's locks and connections belong to that loop."""
    client = rig.terminal()
    client.type("console\r")
    client.expect(">>> ")
    client.type("await agent.double(21)\r")
    client.expect("42\r\n")
    client.expect(">>> ")
    client.type("for n in range(3):\r    print('n', n)\r\r")
    client.expect("n 2\r\n")
    client.expect(">>> ")
    client.type("await state('color')\r")
    client.expect("{'key': 'color'}")
    client.type("1/0\r")
    client.expect("ZeroDivisionError")
    client.type("exit()\r")
    client.expect("clerk › ")
    client.type("\x04")

    assert client.finish() == 0
    assert rig.inspected.agent.values == [rig.agent.loop]


def test_lines_may_be_piped_into_it(rig: Rig) -> None:
    client = rig.command("console")
    client.type(f"x = {SECRET!r}\nx\nprint(x[:5], end=''); print(x[5:])\n")
    client.send(Kind.END)

    assert client.finish() == 0
    assert client.out.count(MASK) == 2
    assert SECRET not in client.out

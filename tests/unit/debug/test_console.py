"""The Python console of a debug session: in the agent's loop, and nothing of it stays."""

from __future__ import annotations

import asyncio
import builtins
import functools
import sys
import time
import weakref

import pytest

from kagent_sdk.debug import console, evaluation
from kagent_sdk.protocol.debug import Hello, Kind
from tests.unit.debug.rig import MASK, SECRET, Client, Rig

CTRL_C, CTRL_D = "\x03", "\x04"


class Thing:
    """Something that only the console holds."""


@pytest.fixture
def python(rig: Rig) -> Client:
    """A terminal with an open console."""
    client = rig.terminal()
    client.type("console\r")
    client.expect(">>> ")
    return client


def run(rig: Rig, source: str) -> Client:
    """Pipe a source into a console, and read to the end."""
    client = rig.command("console")
    client.type(source)
    client.send(Kind.END)
    client.finish()
    return client


def test_code_runs_in_the_agents_loop(rig: Rig, python: Client) -> None:
    """The author's locks and connections belong to that loop."""
    python.type("await agent.double(21)\r")
    python.expect("42\r\n")
    python.type("for n in range(3):\r    print('n', n)\r\r")
    python.expect("n 2\r\n")
    python.type("await state('color')\r")
    python.expect("{'key': 'color'}\r\n")
    python.type("exit()\r")
    python.expect("clerk › ")
    python.type(CTRL_D)

    assert python.finish() == 0
    assert rig.inspected.agent.values == [rig.agent.loop]


@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [
        ("await agent.double(4)", 0, "8\n"),
        ("None", 0, ""),
        ("x = 1", 0, ""),
        ("1; 2", 0, "1\n2\n"),
        ("await state('nothing')", 1, "KeyError: 'nothing'\n"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt\n"),
        ("while: pass", 1, "SyntaxError: invalid syntax\n"),
        ("'\\0'.encode(", 1, "SyntaxError"),
        ("input()", 1, "there is no input"),
        ("raise asyncio.CancelledError", 1, "cancelled\n"),
        ("help(agent.double)", 0, "Need the loop that the agent lives in."),
        ("'x' * 200_000", 0, "… [200002 characters]\n"),
    ],
)
def test_one_line_of_code_from_the_shell(rig: Rig, code: str, exit_code: int, told: str) -> None:
    """Scripts look at one value."""
    client = rig.command("console", code)

    assert client.finish() == exit_code
    assert told in client.out
    assert "evaluation.py" not in client.out


def test_what_it_shows_has_no_secret(rig: Rig) -> None:
    """However it is printed: whole, in pieces, as a value, as an error."""
    client = run(
        rig,
        f"x = {SECRET!r}\nx\nprint(x[:5], end=''); print(x[5:])\n"
        "for c in x: print(c, end='')\n\nraise ValueError(x)\n"
        "'y' * (100_000 - 6) + x\n",
    )

    assert client.out.count(MASK) >= 4
    assert SECRET not in client.out
    assert SECRET[:5] not in client.out


def test_a_session_leaves_no_object_and_no_job(rig: Rig, python: Client) -> None:
    """Whoever looks must not change what is there to be seen."""
    things: list[weakref.ref[Thing]] = []

    def make() -> Thing:
        thing = Thing()
        things.append(weakref.ref(thing))
        return thing

    rig.inspected.agent.make = make  # type: ignore[attr-defined]
    python.type("thing = agent.make(); keep = lambda: thing\r")
    python.type("async def work():\r    asyncio.create_task(asyncio.sleep(3600, thing))\r")
    python.type("    await asyncio.sleep(3600)\r\r")
    python.type("job = asyncio.create_task(work()); await asyncio.sleep(0.01); 'made', 'it'\r")
    python.expect("('made', 'it')\r\n")
    assert len(rig.agent.jobs()) == 2
    assert things[0]() is not None
    mine = rig.start_job()
    python.leave()

    assert rig.agent.jobs() == {"lingering"}
    assert not mine.done()
    assert things[0]() is None


def test_its_output_is_its_own(
    rig: Rig, python: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent's own prints are lines of its log, also while a console is open."""
    rig.inspected.agent.shout = functools.partial(print, "agent's own")  # type: ignore[attr-defined]
    stdout, hook = sys.stdout, sys.displayhook
    python.type("agent.shout(); print('the console')\r")
    python.expect("the console\r\n")
    python.type("123456\r")
    python.expect("123456\r\n")

    assert capsys.readouterr().out == "agent's own\n"
    assert (sys.stdout, sys.displayhook) == (stdout, hook)
    assert not hasattr(builtins, "_")


def test_ctrl_c_cancels_what_is_awaited(rig: Rig, python: Client) -> None:
    """And leaves the console with its variables."""
    python.type("x = 'kept'\r")
    python.type("print('begun'); await asyncio.sleep(3600)\r")
    python.expect("begun\r\n")
    python.type(CTRL_C)
    python.expect("interrupted\r\n")
    python.type(f"half{CTRL_C}x + ' on'\r")
    python.expect("'kept on'\r\n")

    assert rig.agent.jobs() == set()


def test_a_blocked_loop_does_not_wedge_the_session(
    rig: Rig, python: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how to look, and code that was given up does not run later."""
    monkeypatch.setattr(console, "TAKE_S", 0.05)
    with rig.agent.blocked():
        python.type("agent.values.append('late')\r")
        python.expect("`stacks` shows what holds it")
        python.type(CTRL_D)
        python.expect("clerk › ")
        python.type("ps\r")
        python.expect("COROUTINE")

    assert rig.agent.jobs() == set()
    assert rig.inspected.agent.values == []


@pytest.mark.parametrize("waits", ["", "; await asyncio.sleep(0)"])
def test_ctrl_c_ends_code_that_spins_in_the_agents_loop(
    rig: Rig, python: Client, waits: str
) -> None:
    """A slip of the hand must not cost the agent its worker."""
    python.type(f"x = 0\rwhile True: x = x or print('spin' + 'ning') or 1{waits}\r\r")
    python.expect("spinning\r\n")
    python.type(CTRL_C)
    python.expect("interrupted\r\n")
    python.type("await agent.double(4)\r")
    python.expect("8\r\n")

    assert rig.agent.jobs() == set()


def test_code_that_spins_does_not_outlive_its_session(rig: Rig, python: Client) -> None:
    """The client is gone: nobody is left who could end it."""
    python.type("agent.values.append('begun')\rwhile True: agent.values[0] = 'spinning'\r\r")
    rig.wait_until(lambda: rig.inspected.agent.values == ["spinning"])
    python.leave()

    assert rig.agent.run(asyncio.sleep(0, "free")) == "free"
    rig.wait_until(lambda: not rig.agent.jobs())


def test_code_that_does_not_let_go_of_the_loop_is_left_alone(
    rig: Rig, python: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C gives the prompt back, though the code goes on; code in C would not even notice."""
    inside: list[bool] = []
    released: list[bool] = []

    def hold() -> None:
        while not released:
            try:
                inside.append(True)
                # Short: CPython 3.11 hangs threads that are traced, as by coverage, while the exception
                # waits for another one that is in C code.
                time.sleep(0.02)
            except KeyboardInterrupt:
                pass

    rig.inspected.agent.hold = hold  # type: ignore[attr-defined]
    monkeypatch.setattr(console, "TAKE_S", 5.0)
    python.type("agent.hold()\r")
    rig.wait_until(lambda: bool(inside))
    monkeypatch.setattr(console, "TAKE_S", 0.05)
    try:
        python.type(CTRL_C)
        python.expect("has not let go of it")
    finally:
        released.append(True)


def test_a_flood_of_output_does_not_hold_the_loop(
    python: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent waits for nobody's terminal; what is too much is dropped, and said so."""
    monkeypatch.setattr(evaluation, "MAX_WAITING_CHARS", 10_000)
    python.type("for n in range(3): print(str(n) * 9_000)\r\r")
    python.expect("[more was printed than could be shown]")


def test_a_tracked_loop_gets_its_own_factory_back(rig: Rig, python: Client) -> None:
    """While a console is open jobs are made by the author's factory as before."""
    made: list[str] = []

    def factory(
        loop: asyncio.AbstractEventLoop, work: object, **options: object
    ) -> asyncio.Future[object]:
        made.append("one")
        return asyncio.Task(work, loop=loop, **options)  # type: ignore[arg-type]

    python.type(CTRL_D)
    python.expect("clerk › ")
    rig.agent.loop.set_task_factory(factory)  # type: ignore[arg-type]
    assert run(rig, "await agent.double(2)\n").out == "4\n"

    assert made
    assert rig.agent.loop.get_task_factory() is factory
    rig.agent.loop.set_task_factory(None)


def test_an_ended_loop_is_told_of(rig: Rig) -> None:
    """A worker goes down while somebody looks."""
    rig.agent.close()
    client = rig.command("console", "1")

    assert client.finish() == 1
    assert client.out == "the agent's loop has ended\n"


def test_names_are_completed(python: Client) -> None:
    """As in any Python shell."""
    python.type("await age\t.dou\t(3)\r")
    python.expect("6\r\n")


def test_a_statement_has_an_end(rig: Rig) -> None:
    """A client that never closes its bracket would fill the memory."""
    client = rig.attach(Hello(("console",)))
    client.type("(\n")
    for _ in range(3):
        client.type("'" + "x" * 30_000 + "'\n")
    client.expect("characters at most")
    client.leave()

"""A debug session on a terminal: prompt, history, completion, Ctrl-C, resize."""

from __future__ import annotations

from kagent_sdk.protocol.debug import Hello, Kind, encode_resize
from tests.unit.debug.rig import DEADLINE_S, MASK, SECRET, Rig

PROMPT = "clerk › "
TAB, UP, CTRL_C, CTRL_D = "\t", "\x1b[A", "\x03", "\x04"


def test_commands_and_options_are_completed(rig: Rig) -> None:
    """Nobody remembers them all."""
    client = rig.terminal()
    client.type(f"sa{TAB} --l{TAB} there\r")
    client.expect("THERE\r\n")
    client.type(f"s{TAB}")
    client.expect("stacktrace")


def test_numbers_of_jobs_are_completed(rig: Rig) -> None:
    """They have fifteen digits."""
    job = rig.start_job()
    client = rig.terminal()
    client.type(f"where {TAB}\r")
    client.expect("in linger")
    assert not job.done()


def test_history_is_shared_and_holds_no_secret(rig: Rig) -> None:
    """The next session goes on where this one ended."""
    first = rig.terminal()
    first.type(f"say {SECRET} before\r")
    first.expect("before")
    first.expect(PROMPT)
    first.type(CTRL_D)
    assert first.finish() == 0
    second = rig.terminal()
    second.type(f"{UP} again\r")
    rig.wait_until(lambda: bool(second.commands))

    assert second.commands == [f"say '{MASK}' before again"]


def test_ctrl_c_ends_the_command_and_not_the_session(rig: Rig) -> None:
    """As in a shell."""
    client = rig.terminal()
    client.type("hold\r")
    gate, session = rig.gates.get(timeout=DEADLINE_S)
    client.type(CTRL_C)
    client.expect("^C")
    client.expect(PROMPT)

    assert session.is_over()
    gate.set()
    client.type(f"half a line{CTRL_C}")
    client.expect(PROMPT)
    client.type("say next\r")
    client.expect("next\r\n")
    client.expect(PROMPT)
    client.type("exit\r")
    assert client.finish() == 0
    assert "let go" not in client.out


def test_what_is_typed_ahead_is_not_lost(rig: Rig) -> None:
    """People paste several lines."""
    client = rig.terminal()
    client.type("say one\rsay two\rexit\r")
    assert client.finish() == 0

    assert client.commands == ["say one", "say two"]


def test_a_long_line_is_taken_piece_by_piece(rig: Rig) -> None:
    """A paste must not keep the server from its other sessions."""
    client = rig.terminal()
    client.type(f"say {'x' * 400}\r")
    rig.wait_until(lambda: bool(client.commands))

    assert client.commands == [f"say {'x' * 400}"]


def test_a_terminal_without_a_size_is_taken_for_a_usual_one(rig: Rig) -> None:
    """Programs make such ones; prompt_toolkit divides by their columns."""
    client = rig.attach(Hello(None, 1, 1, "xterm", is_terminal=True))
    client.type(f"s{TAB}")
    client.expect("stacktrace")
    client.type("\x15width\r")
    client.expect("80 columns")
    client.connection.sendall(encode_resize(0, 0))
    client.type("width\r")
    client.expect("80 columns")


def test_a_new_size_is_used_by_the_next_command(rig: Rig) -> None:
    """Tables fit the window."""
    client = rig.terminal()
    client.connection.sendall(encode_resize(61, 20))
    client.type("width\r")
    client.expect("61 columns")


def test_nothing_that_a_command_prints_drives_the_terminal(rig: Rig) -> None:
    """Names are the author's, or a caller's."""
    client = rig.terminal()
    client.type("ring\r")
    client.expect(r"\x07ding\x1b[31m")


def test_the_end_of_input_is_the_end(rig: Rig) -> None:
    """The client's terminal was closed."""
    client = rig.attach(Hello(None, is_terminal=True))
    client.expect(PROMPT)
    client.send(Kind.END)

    assert client.finish() == 0

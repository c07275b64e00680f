"""The debug server, over real socketpairs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from kagent_sdk.debug import outbox
from kagent_sdk.debug.server import DebugServer
from kagent_sdk.protocol.debug import Hello, Kind, encode_frame
from tests.unit.debug.rig import DEADLINE_S, MASK, SECRET, FakeInspected, Rig


def count_descriptors() -> int:
    """Return how many this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def test_one_command_prints_and_ends_with_its_code(rig: Rig) -> None:
    """Scripts read its stdout and its code; the log has its line."""
    client = rig.command("say", "hello\n")

    assert client.finish() == 0
    assert (client.out, client.errors) == ("hello\n", "")
    assert client.commands == ["say 'hello\n'"]
    assert client.ends == [1]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("sy",), 2, "there is no command 'sy': did you mean `say`?"),
        (("qqqq",), 2, "`help` lists the commands"),
        (("say", "--lout"), 2, "--loud"),
        (("where",), 2, "Missing argument 'JOB'"),
        (("where", "1"), 1, "there is no job 1"),
        (("cancel", "1"), 1, "there is no job 1"),
        (("fail",), 1, f"ValueError: wrong: {MASK}"),
    ],
)
def test_what_goes_wrong_is_told_on_stderr(
    rig: Rig, words: tuple[str, ...], code: int, told: str
) -> None:
    """A script must not take an error for the answer."""
    client = rig.command(*words)

    assert client.finish() == code
    assert told in client.errors
    assert client.out == ""
    assert SECRET not in client.errors


def test_a_secret_in_pieces_does_not_get_out(rig: Rig) -> None:
    """Commands print an object by many writes."""
    client = rig.command("say", SECRET[:4], SECRET[4:], " there")

    assert client.finish() == 0
    assert client.out == f"{MASK} there"


def test_a_secret_on_the_command_line_is_not_logged(rig: Rig) -> None:
    """The log is read by more people than may debug."""
    client = rig.command("say", SECRET)
    client.finish()

    assert client.commands == [f"say {MASK}"]


def test_a_blocked_loop_is_looked_into(rig: Rig) -> None:
    """That is what one attaches for; `cancel` alone needs the loop."""
    with rig.agent.blocked():
        listed = rig.command("ps")
        stuck = rig.command("stacktrace")

        assert listed.finish() == 0
        assert stuck.finish() == 0
        assert "leave.wait" in stuck.out


def test_a_job_is_found_looked_at_and_cancelled(rig: Rig) -> None:
    """The three commands speak of it by the same number."""
    job = rig.start_job()
    listed = rig.command("ps", "--filter", "lingering")
    listed.finish()
    number = listed.out.splitlines()[1].split()[0]
    where = rig.command("where", number)
    where.finish()
    cancelled = rig.command("cancel", number)

    assert cancelled.finish() == 0
    assert "in linger" in where.out
    assert "cancelled" in cancelled.out
    assert job.cancelled()


def test_a_client_that_hangs_up_ends_its_command(rig: Rig) -> None:
    """A profile of a minute is not taken for nobody."""
    client = rig.command("hold")
    gate, session = rig.gates.get(timeout=DEADLINE_S)
    assert not session.is_over()
    client.connection.close()
    rig.wait_until(session.is_over)
    gate.set()

    assert client.ended.wait(DEADLINE_S)
    assert client.ends == [1]


def test_a_client_that_does_not_read_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command's thread must not wait for ever, nor its output fill the memory."""
    monkeypatch.setattr(outbox, "STALL_S", 0.1)
    client = rig.command("flood")

    assert client.ended.wait(DEADLINE_S)
    assert rig.command("say", "alive").finish() == 0


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 64, encode_frame(Kind.OUTPUT, b"x"), encode_frame(Kind.RESIZE, b"\0\0\0\0")],
)
def test_who_does_not_speak_the_protocol_is_cut_off(rig: Rig, data: bytes) -> None:
    """What follows could not be read."""
    client = rig.attach(Hello(None))
    client.connection.sendall(data)

    assert client.ended.wait(DEADLINE_S)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_input_that_nobody_asked_for_is_bounded(rig: Rig, is_terminal: bool) -> None:
    """It would fill the agent's memory."""
    client = rig.attach(Hello(None, is_terminal=is_terminal))
    client.type("hold\n")
    gate, _ = rig.gates.get(timeout=DEADLINE_S)
    with contextlib.suppress(OSError):  # it may be cut off in the middle
        client.connection.sendall(encode_frame(Kind.INPUT, b"x" * 60_000) * 5)
    gate.set()

    assert client.ended.wait(DEADLINE_S)


def test_lines_are_piped_into_a_session(rig: Rig) -> None:
    """A file of commands is run as one; the last one's code counts."""
    client = rig.attach(Hello(None))
    client.type("say one two\n\nsay --")
    client.type("loud three\r\n'\nsy")
    client.send(Kind.END)

    assert client.finish() == 2
    assert client.out == "onetwoTHREE"
    assert "no closing quotation" in client.errors
    assert "did you mean" in client.errors


def test_only_so_many_commands_run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up, a command may still hold its thread."""
    rig.command("say", "loads it").finish()
    monkeypatch.setattr(rig.shell, "_slots", threading.Semaphore(1))
    holding = rig.command("hold")
    gate, _ = rig.gates.get(timeout=DEADLINE_S)
    refused = rig.command("say")

    assert refused.finish() == 1
    assert "too many commands" in refused.errors
    gate.set()
    assert holding.finish() == 0
    rig.wait_until(lambda: rig.command("say").finish() == 0)


def test_fifty_hang_ups_leave_nothing(rig: Rig) -> None:
    """Whatever was under way: a descriptor, a thread or a job each would add up."""
    rig.terminal().leave()
    threads, descriptors = threading.active_count(), count_descriptors()
    for number in range(50):
        client = rig.terminal()
        if number % 10 == 1:
            client.type("console\r")
            client.expect(">>> ")
        elif number % 10 == 2:
            client.type("console\r")
            client.expect(">>> ")
            client.type("await asyncio.sleep(3600)\r")
        elif number % 5 == 3:
            client.type("flood\r")
        elif number % 5 == 4:
            client.type("sa")
        client.leave()

    rig.wait_until(lambda: threading.active_count() <= threads)
    assert count_descriptors() == descriptors
    assert rig.agent.jobs() == set()
    assert rig.agent.loop.get_task_factory() is None


def test_closing_ends_every_session(rig: Rig) -> None:
    """A worker that goes down waits for nobody's terminal."""
    idle, busy = rig.terminal(), rig.command("hold")
    gate, session = rig.gates.get(timeout=DEADLINE_S)
    rig.server.close()
    gate.set()

    assert session.is_over()
    for client in (idle, busy):
        assert client.ends == [1]
    late = rig.command("say")
    assert late.ends == [1]
    rig.server.close()


def test_without_a_session_there_is_nothing_to_close(rig: Rig) -> None:
    """Most workers are never debugged."""
    DebugServer(FakeInspected(rig.agent.loop)).close()


def test_commands_that_cannot_be_loaded_are_told_of(rig: Rig) -> None:
    """The client would wait for an answer."""

    def fail() -> list[object]:
        raise ImportError("no such module")

    rig.server.close()
    rig.server = DebugServer(rig.inspected, make_commands=fail)
    client = rig.command("say")

    assert client.finish() == 1
    assert "ImportError" in client.errors


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("help",), 0, "Print what a terminal obeys."),
        (("help", "ps"), 0, "Usage: debug ps [OPTIONS]"),
        (("--help",), 0, "Print what a terminal obeys."),
        (("where", "--help"), 0, "Usage: debug where [OPTIONS] JOB"),
        (("exit",), 0, ""),
        (("help", "pss"), 2, ""),
    ],
)
def test_help_goes_to_the_session(
    rig: Rig, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, told: str
) -> None:
    """Not into the agent's log."""
    client = rig.command(*words)

    assert client.finish() == code
    assert told in client.out
    assert capsys.readouterr() == ("", "")


def test_the_commands_of_ours_are_there(rig: Rig) -> None:
    """A server that is given no others has them."""
    rig.server.close()
    rig.server = DebugServer(rig.inspected)
    client = rig.command("secrets")

    assert client.finish() == 0
    assert "TOKEN" in client.out

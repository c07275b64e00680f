"""`kos-agent logs`: all of an agent's log, for a person and for a program."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.cli.boundary import EXIT_USAGE
from tests.acceptance.cli import COMMAND, Terminal, environment, kos, show

STYLE = re.compile(r"\x1b\[[\d;]*m")
NOW = datetime.now(UTC)


def record(event: str, age_s: float = 0.0, **values: Any) -> str:
    """Return a line as the host writes it."""
    at = (NOW - timedelta(seconds=age_s)).isoformat(timespec="microseconds")
    members = {"timestamp": at.replace("+00:00", "Z"), "level": "info", "event": event}
    return json.dumps({**members, "stream": "stdout", "agent": "a", "pid": 1, **values}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an agent that does not run, with a log in three files."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "runtime.log.2").write_text(record("oldest", 7200, stream="host"))
    (logs / "runtime.log.1").write_text(
        record("older", 1800, task_id="t-1", capability="digest", attempt=1)
        + record("worse", 1700, level="error", exception="Traceback\n  File\nValueError: no")
    )
    (logs / "runtime.log").write_text(
        record("said \x1b[31m\u202e\x9b", 1, task_id="t-2", level="warning", size=3)
        + '{"event": "torn \x1b[31m'
    )
    return tmp_path


def events(*arguments: str | Path) -> list[str]:
    """Return the events that the command writes into a pipe."""
    result = kos("logs", *arguments)
    assert (result.code, result.err) == (0, "")
    return [json.loads(line)["event"] for line in result.out.splitlines()]


def test_a_person_sees_all_files_in_colour_and_in_order(folder: Path) -> None:
    """The agent need not run: that is when people look."""
    result = show("logs", "-C", folder, columns=200)
    lines = STYLE.sub("", result.out).split("\n")[:-1]
    texts = [re.sub(r"^\d\d:\d\d:\d\d\.\d\d\d ", "", line) for line in lines if " UTC" not in line]

    assert result.code == 0
    assert texts == [
        "info     oldest",
        "info     older capability=digest task_id=t-1 attempt=1",
        "error    worse",
        "    Traceback",
        "      File",
        "    ValueError: no",
        r"warning  said \x1b[31m\u202e\x9b size=3 task_id=t-2",
        r'{"event": "torn \x1b[31m',
    ]
    assert STYLE.search(result.out)


def test_nothing_from_the_worker_steers_the_terminal(folder: Path) -> None:
    """Not in colour, not as JSON on a terminal, not through a pipe that ends in one."""
    shown = [
        STYLE.sub("", show("logs", "-C", folder).out),
        show("logs", "-C", folder, "--json").out,
        kos("logs", "-C", folder).out,
        show("logs", "-C", folder, env={"NO_COLOR": "1"}).out,
    ]

    assert all("said" in text and "torn" in text for text in shown)
    assert all(not set(text) & {"\x1b", "\x9b", "\u202e"} for text in shown)


def test_a_program_gets_the_lines_of_the_files(folder: Path) -> None:
    """In a pipe without asking for it."""
    written = "".join(
        (folder / "logs" / name).read_text()
        for name in ("runtime.log.2", "runtime.log.1", "runtime.log")
    )
    whole = written[: written.rindex('{"event"')]

    assert kos("logs", "-C", folder).out == whole + '{"event": "torn \\x1b[31m\n'
    assert kos("logs", "--json", cwd=folder).out.startswith(whole)


def test_filters_narrow_what_is_shown(folder: Path) -> None:
    """By task, by level, by time, by number; each of them and together."""
    where = ("-C", folder)

    assert events(*where, "--task", "t-1") == ["older"]
    assert events(*where, "--level", "warning") == ["worse", "said \x1b[31m\u202e\x9b"]
    assert events(*where, "--since", "1h", "--level", "debug")[0] == "older"
    assert events(*where, "--since", NOW.isoformat()) == []
    assert events(*where, "-n", "1", "--level", "error") == ["worse"]
    assert events(*where, "-n", "2", "--since", "1w", "--level", "info") == [
        "worse",
        "said \x1b[31m\u202e\x9b",
    ]


@pytest.fixture
def following(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``kos-agent logs -f -n 1`` in a pipe."""
    arguments = [*COMMAND, "logs", "-f", "-n", "1", "--level", "info", "-C", str(folder)]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=environment(None), bufsize=1
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def rotate(current: Path) -> None:
    """Give every file the next number, as the host does: a reader may look at any moment of it."""
    count = len(list(current.parent.glob(f"{current.name}.*")))
    for number in range(count, 0, -1):
        current.with_name(f"{current.name}.{number}").rename(
            current.with_name(f"{current.name}.{number + 1}")
        )
    current.rename(current.with_name(f"{current.name}.1"))
    current.touch()


def test_it_follows_across_a_rotation(folder: Path, following: subprocess.Popen[str]) -> None:
    """Numbered lines, some of them written right before a rotation: all come, once."""
    assert following.stdout is not None
    assert "said" in following.stdout.readline()
    current = folder / "logs" / "runtime.log"
    with current.open("a") as file:
        file.write("\n")
    for number in range(100):
        with current.open("a") as file:
            file.write(record(f"line {number}"))
        if number % 10 == 9:
            rotate(current)
    found = [json.loads(following.stdout.readline())["event"] for _ in range(100)]

    assert found == [f"line {number}" for number in range(100)]


def test_ctrl_c_ends_it(folder: Path) -> None:
    """As it ends every command that watches."""
    (folder / "logs" / "runtime.log").unlink()
    with Terminal(["logs", "-f", "-C", folder]) as terminal:
        terminal.read_until("ValueError: no")
        (folder / "logs" / "runtime.log").write_text(record("hello"))
        terminal.read_until("hello")
        terminal.interrupt()

        assert terminal.wait().code == 0


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """`logs -f` may be typed before `run`."""
    with Terminal(["logs", "-f", "-C", tmp_path]) as terminal:
        terminal.read_until("waiting for")
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "runtime.log").write_text(record("first"))

        assert "first" in terminal.read_until("first")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-C", "nowhere"], 1, "there is no folder nowhere"),
        (["-C", "."], 1, "kos-agent run"),
        (["--url", "http://a:1"], EXIT_USAGE, "kos-agent logs -C DIR"),
        (["--since", "tomorrow"], EXIT_USAGE, "10m"),
        (["--level", "bad"], EXIT_USAGE, "critical"),
        (["-n", "-1"], EXIT_USAGE, "-1"),
    ],
)
def test_what_cannot_be_says_the_way_out(
    tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    """One line, and an exit code that a script can tell apart."""
    result = kos("logs", *arguments, cwd=tmp_path)

    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert result.err.count("\n") == 1


def test_a_reader_that_leaves_ends_it_quietly(folder: Path) -> None:
    """`kos-agent logs | head -1`."""
    with (folder / "logs" / "runtime.log.2").open("a") as file:
        file.write(record("x" * 100) * 20_000)
    command = f"{' '.join(COMMAND)} logs -C '{folder}' | head -1"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(None), capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout)["event"] == "oldest"
    assert done.stderr == ""

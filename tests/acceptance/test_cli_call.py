"""`kos-agent call`, `tasks` and `capabilities` with a real agent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cli import COMMAND, Terminal, environment, kos, show
from tests.agents import RunningAgent, running_agent

ENTRYPOINT = '''
import asyncio
from typing import Annotated, AsyncIterator
from pydantic import BaseModel, Field
from kagent_sdk import Agent, TaskContext, TaskError

agent = Agent()

class Greeting(BaseModel):
    text: str

@agent.capability
async def greet(
    name: Annotated[str, Field(min_length=1, description="Whom")],
    count: Annotated[int, Field(ge=1, le=3)] = 1,
) -> Greeting:
    """Greet somebody."""
    return Greeting(text=" ".join([f"Hello, {name}!"] * count))

@agent.capability
async def count(upto: int, pause_s: float = 0) -> AsyncIterator[int]:
    """Count, one item at a time."""
    for number in range(upto):
        yield number
        await asyncio.sleep(pause_s)

@agent.capability
async def work(ctx: TaskContext, steps: int = 3, pause_s: float = 0.1) -> str:
    """Work with progress."""
    for step in range(steps):
        await ctx.progress(step / steps, f"step {step}")
        await asyncio.sleep(pause_s)
    return "done"

@agent.capability
async def refuse() -> None:
    """Fail."""
    raise TaskError("quota", "no more today", retryable=True, details={"limit": 3})

@agent.capability
def break_() -> None:
    """Break."""
    raise ZeroDivisionError("by zero")

if __name__ == "__main__":
    agent.run()
'''


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """An agent that stays the same through all tests of this module."""
    folder = tmp_path_factory.mktemp("cli") / "agent"
    folder.mkdir()
    (folder / "entrypoint.py").write_text(ENTRYPOINT)
    with running_agent(folder) as running:
        yield running


def task_of(agent: RunningAgent, task_id: str) -> dict[str, object]:
    """Return a task as the agent knows it."""
    document: dict[str, object] = agent.get(f"/v1/tasks/{task_id}").json()
    return document


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["name=Ada", "count:=2"], None),
        (['{"name": "Ada", "count": 2}'], None),
        (["-"], '{"name": "Ada", "count": 2}'),
        (["@in.json"], None),
    ],
)
def test_every_way_to_write_an_input_reaches_the_agent(
    agent: RunningAgent, words: list[str], stdin: str | None, tmp_path: Path
) -> None:
    """Words for people, JSON for pasting, files and pipes for everything else."""
    (tmp_path / "in.json").write_text('{"name": "Ada", "count": 2}')

    result = kos("call", "greet", *words, "-C", agent.directory, stdin=stdin, cwd=tmp_path)

    assert result.code == 0, result.err
    assert result.out == '{"text":"Hello, Ada! Hello, Ada!"}\n'
    assert result.err == ""


def test_an_agent_is_found_in_the_current_folder_or_by_its_address(agent: RunningAgent) -> None:
    """Nobody types ports, unless the agent is somewhere else."""
    here = kos("call", "greet", "name=Ada", cwd=agent.directory)
    there = kos("call", "greet", "name=Ada", "--url", agent.url)

    assert here.json() == there.json() == {"text": "Hello, Ada!"}


def test_a_wrong_input_is_told_with_what_is_expected(agent: RunningAgent) -> None:
    """One look must be enough to write it right."""
    result = kos("call", "greet", "name=", "count:=9", "-C", agent.directory)

    assert result.code == 2
    assert result.out == ""
    lines = result.err.splitlines()
    assert lines[0] == "error: greet does not take this input"
    assert lines[1].startswith("  name: ")
    assert lines[2].startswith("  count: ")
    assert lines[3:5] == [
        "expected",
        "  name   string, ≥ 1 characters  required  Whom",
    ]
    assert lines[-1] == "  kos-agent call greet name=NAME"


def test_a_failure_is_one_line_and_exit_code_1(agent: RunningAgent) -> None:
    """The author's code and message, and whether to try again."""
    refused = kos("call", "refuse", "-C", agent.directory)
    broken = kos("call", "break_", "-C", agent.directory)

    assert refused.code == broken.code == 1
    assert refused.err.splitlines() == [
        "error: refuse failed: quota: no more today; it may succeed when tried again",
        '  details: {"limit":3}',
    ]
    assert broken.err.startswith("error: break_ failed: internal_error: ZeroDivisionError: by zero")
    assert "Traceback" not in broken.err


def test_a_failure_is_json_for_a_program(agent: RunningAgent) -> None:
    """With the whole task in it."""
    result = kos("call", "refuse", "--json", "-C", agent.directory)

    error = json.loads(result.err)["error"]
    assert result.out == ""
    assert error["code"] == "quota"
    assert error["details"]["state"] == "failed"


def test_an_unknown_capability_names_the_nearest(agent: RunningAgent) -> None:
    """In every command that takes a name."""
    for command in ("call", "capabilities"):
        result = kos(command, "gret", "-C", agent.directory)

        assert result.code == 2
        assert "did you mean 'greet'?" in result.err


def test_items_come_one_by_one(agent: RunningAgent) -> None:
    """The first is there long before the last."""
    arguments = [
        "call",
        "count",
        "upto:=100",
        "pause_s:=0.5",
        "--stream",
        "-C",
        str(agent.directory),
    ]
    command = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, env=environment(None), text=True
    )
    with command:
        assert command.stdout is not None
        first = [command.stdout.readline() for _ in range(2)]
        command.terminate()

    assert first == ["0\n", "1\n"]


def test_without_stream_the_items_are_one_list(agent: RunningAgent) -> None:
    """And with it they are lines; what does not stream is one line too."""
    whole = kos("call", "count", "upto:=3", "-C", agent.directory)
    lines = kos("call", "count", "upto:=3", "--stream", "-C", agent.directory)
    single = kos("call", "greet", "name=Ada", "--stream", "-C", agent.directory)

    assert whole.out == "[0,1,2]\n"
    assert lines.out == "0\n1\n2\n"
    assert single.out == '{"text":"Hello, Ada!"}\n'


def test_a_stream_longer_than_the_agent_keeps_is_whole_all_the_same(agent: RunningAgent) -> None:
    """The agent keeps a window of it; the command line takes what comes."""
    result = kos("call", "count", "upto:=30000", "-C", agent.directory)

    assert result.json() == list(range(30_000))


def test_a_timeout_is_the_task_s(agent: RunningAgent) -> None:
    """The agent enforces it, not the command line."""
    result = kos("call", "work", "pause_s:=30", "--timeout", "0.2", "-C", agent.directory)

    assert result.code == 1
    assert "work failed: timeout: not finished within 0.2 s" in result.err


def test_progress_is_a_bar_that_leaves_nothing_behind(agent: RunningAgent) -> None:
    """While it works there is something to see; afterwards there is the output alone."""
    with Terminal(["call", "work", "pause_s:=1", "-C", agent.directory], piped=True) as terminal:
        terminal.read_until("step 1")
        result = terminal.wait()

    assert result.code == 0
    assert result.out == '"done"\n'
    assert "33 %" in result.err
    # The last that is written goes back to the bar's line and erases it (ECMA-48: CUU, EL).
    assert result.err.endswith("\x1b[1A\x1b[2K")


def test_progress_and_items_share_a_terminal(agent: RunningAgent) -> None:
    """An item is written above the bar, never through it."""
    result = show("call", "count", "upto:=3", "--stream", "-C", agent.directory)

    assert result.code == 0
    assert [line for line in result.out.splitlines() if line.strip().isdigit()] == ["0", "1", "2"]


def test_a_person_sees_colours_and_indentation(agent: RunningAgent) -> None:
    """And a pipe, or NO_COLOR, neither colours nor anything else that a terminal obeys."""
    coloured = show("call", "greet", "name=Ada", "-C", agent.directory)
    plain = show("call", "greet", "name=Ada", "-C", agent.directory, env={"NO_COLOR": "1"})
    dumb = show("call", "greet", "name=Ada", "-C", agent.directory, env={"TERM": "dumb"})

    assert "\x1b[" in coloured.out
    assert "\n  " in plain.out
    assert json.loads(dumb.out) == {"text": "Hello, Ada!"}
    assert "\x1b[3" not in plain.out
    assert "\x1b" not in dumb.out


def test_ctrl_c_cancels_the_task(agent: RunningAgent) -> None:
    """Whoever leaves does not leave work behind that nobody waits for."""
    arguments: list[str | Path] = [
        "call",
        "work",
        "pause_s:=60",
        "--id",
        "left",
        "-C",
        agent.directory,
    ]
    with Terminal(arguments) as terminal:
        terminal.read_until("step 0")
        terminal.interrupt()
        result = terminal.wait()

    assert result.code == 130
    assert "canceled task left" in result.out
    assert "Traceback" not in result.out
    assert kos("tasks", "left", "--watch", "-C", agent.directory).code == 1
    assert task_of(agent, "left")["state"] == "canceled"


def test_the_same_id_is_the_same_task(agent: RunningAgent) -> None:
    """So a call can be repeated without doing the work twice."""
    first = kos("call", "greet", "name=Ada", "--id", "once", "-C", agent.directory)
    again = kos("call", "greet", "name=Ada", "--id", "once", "-C", agent.directory)
    other = kos("call", "greet", "name=Bob", "--id", "once", "-C", agent.directory)

    assert first.out == again.out
    assert other.code == 2
    assert "id 'once' belongs to a task with another capability or input" in other.err


def test_a_task_can_be_left_alone_followed_and_looked_at(agent: RunningAgent) -> None:
    """--async prints the id and nothing else, for scripts."""
    started = kos("call", "work", "--async", "-C", agent.directory)
    task_id = started.out.strip()

    followed = kos("tasks", task_id, "--watch", "-C", agent.directory)
    listed = kos("tasks", "--state", "completed", "--capability", "work", "-C", agent.directory)
    document = kos("tasks", task_id, "--json", "-C", agent.directory).json()

    assert f"kos-agent tasks {task_id} --watch" in started.err
    assert followed.code == 0
    assert 'output\n  "done"' in followed.out
    assert task_id in listed.out
    assert document["output"] == "done"


def test_a_task_can_be_canceled(agent: RunningAgent) -> None:
    """And one that has ended stays as it is."""
    kos("call", "work", "pause_s:=60", "--async", "--id", "unwanted", "-C", agent.directory)

    canceled = kos("tasks", "--cancel", "unwanted", "-C", agent.directory)
    watched = kos("tasks", "unwanted", "--watch", "-C", agent.directory)
    again = kos("tasks", "--cancel", "unwanted", "-C", agent.directory)

    assert canceled.code == again.code == 0
    assert watched.code == 1
    assert "work was canceled (task unwanted)" in watched.err
    assert again.out == "task unwanted is canceled\n"


def test_a_task_that_is_not_there_is_told(agent: RunningAgent) -> None:
    """As wrong usage: the id is the command line's."""
    result = kos("tasks", "nobody", "-C", agent.directory)

    assert result.code == 2
    assert result.err.startswith("error: no task 'nobody'")


def test_an_empty_list_says_so(agent: RunningAgent) -> None:
    """Nothing at all would leave doubts."""
    result = kos("tasks", "--state", "rejected", "-C", agent.directory)

    assert (result.code, result.out) == (0, "no tasks\n")


def test_capabilities_are_listed_and_described(agent: RunningAgent) -> None:
    """With an example that works as it stands."""
    listed = kos("capabilities", "-C", agent.directory)
    described = kos("capabilities", "greet", "-C", agent.directory)
    schema = kos("capabilities", "greet", "--json", "-C", agent.directory).json()

    assert listed.out.splitlines()[:2] == [
        "CAPABILITY  TAKES              GIVES              DESCRIPTION",
        "greet       name [count]       Greeting           Greet somebody.",
    ]
    assert schema["input_schema"]["required"] == ["name"]
    example = described.out.splitlines()[-1].split()
    assert example[:3] == ["kos-agent", "call", "greet"]
    assert kos(*example[1:], "-C", agent.directory).json() == {"text": "Hello, NAME!"}

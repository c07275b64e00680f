"""loops, secrets, state, log."""

from __future__ import annotations

import asyncio
import json
import threading

import click
import pytest

from kagent_sdk.debug.commands import surroundings
from kagent_sdk.debug.port import LoopView
from tests.unit.debug.sessions import make_console


def test_loops_are_shown_with_their_last_error() -> None:
    """A loop that crashes again and again is seen at a glance, on one line."""
    console = make_console(
        author_loops=(LoopView("sweep", "backing_off", 7, 2, "OSError: hunter2\nb"),)
    )

    assert console.run("loops").splitlines()[1].split() == [
        *("sweep", "backing_off", "7", "2", "OSError:", "[redacted]\\nb"),
    ]
    assert console.read("loops") == {
        "loops": [
            {
                "name": "sweep",
                "state": "backing_off",
                "runs": 7,
                "failures": 2,
                "last_error": "OSError: [redacted]\nb",
            }
        ]
    }


def test_without_loops_and_secrets_it_says_so() -> None:
    """An empty answer looks like a broken connection."""
    console = make_console()

    assert console.run("loops") == "no loops\n"
    assert console.run("secrets") == "no secrets\n"


def test_secrets_are_names_alone() -> None:
    """The values are not even asked for."""
    console = make_console(names=("openai_api_key", "agent_token"))

    assert console.run("secrets") == "agent_token\nopenai_api_key\n"
    assert console.read("secrets") == {"secrets": ["agent_token", "openai_api_key"]}


async def test_state_is_read_in_the_agents_loop() -> None:
    """It is not safe in any other thread."""
    console = make_console(values={"totals": {"documents": 3, "name": "é\x1b"}})

    found = await console.run_beside("state", "totals")

    assert json.loads(found) == {"documents": 3, "name": "é\x1b"}
    assert "\x1b" not in found


async def test_a_key_that_is_not_there_is_said() -> None:
    """Not a traceback."""
    console = make_console()

    with pytest.raises(click.ClickException, match="no key 'totals'"):
        await console.run_beside("state", "totals")


async def test_a_value_that_is_too_long_is_refused() -> None:
    """Half of a JSON document is no use to anybody."""
    console = make_console(values={"all": "x" * surroundings.MAX_STATE_CHARS})

    with pytest.raises(click.ClickException, match="262146 characters"):
        await console.run_beside("state", "all")


async def test_a_blocked_loop_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most sessions begin because the agent does not answer."""
    monkeypatch.setattr(surroundings, "LOOP_TIMEOUT_S", 0.01)
    console = make_console(values={"a": 1})
    errors: list[str] = []

    def ask() -> None:
        try:
            console.run("state", "a")
        except click.ClickException as exc:
            errors.append(exc.message)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()  # blocks the loop that is asked
    await asyncio.sleep(0)

    assert len(errors) == 1
    assert "did not answer" in errors[0]
    assert "'stacks' shows where" in errors[0]


def test_the_level_is_set() -> None:
    """Nobody restarts an agent to see more of it."""
    console = make_console()
    console.run("log", "DEBUG")

    assert console.inspected.level == "debug"
    with pytest.raises(click.BadParameter, match="'loud' is not one of"):
        console.run("log", "loud")

"""stacks."""

from __future__ import annotations

import asyncio
import json
import threading

from tests.unit.debug.sessions import make_console


async def test_every_thread_is_shown_and_the_loops_is_marked() -> None:
    """Where the agent stands still is the first question."""
    console = make_console()
    shown = await console.run_beside("stacks")
    document = json.loads(await console.run_beside("stacks", "--json"))

    (loop,) = [thread for thread in document["threads"] if thread["is_loop"]]
    assert loop["ident"] == threading.get_ident()
    assert document["jobs"] == len(asyncio.all_tasks())
    assert f"thread {threading.current_thread().name}  (runs the agent's loop, " in shown
    assert any(place["function"].endswith("run_forever") for place in loop["stack"])


def test_a_secret_in_a_line_of_source_is_not_shown() -> None:
    """An author may have written one there for a test."""
    inside, gate = threading.Event(), threading.Event()

    def work(password: str = "hunter2") -> bool:  # noqa: S107
        inside.set()
        return gate.wait() and password == "hunter2"  # noqa: S105

    thread = threading.Thread(target=work, name="with \x1b[31m a name")
    thread.start()
    inside.wait()
    shown = make_console().run("stacks")
    gate.set()
    thread.join()

    assert "return gate.wait() and password == " in shown
    assert "hunter2" not in shown
    assert "thread with \\x1b[31m a name" in shown

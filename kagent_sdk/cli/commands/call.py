"""kos-agent call."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import CommandError, report
from kagent_sdk.cli.calls import open_calls
from kagent_sdk.cli.inputs import read_input
from kagent_sdk.cli.item_sink import ItemSink
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.outcomes import TaskFailedError, check_completed
from kagent_sdk.cli.output import print_document, print_json, print_screen, say
from kagent_sdk.cli.problems import ProblemError
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from kagent_sdk.cli.calls import Calls

ID_BYTES = 8
"""64 random bits: ids of one agent's tasks do not meet, and can still be typed."""


@click.command("call")
@click.argument("capability")
@click.argument("words", metavar="[INPUT]...", nargs=-1)
@click.option(
    "--stream", is_flag=True, help="Print each item of a stream as it comes, one to a line."
)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="Seconds that the task may take.",
)
@click.option(
    "--id", "task_id", metavar="ID", help="The task's id: the same id and input are the same task."
)
@click.option(
    "--async", "is_async", is_flag=True, help="Print the task's id and do not wait for its end."
)
@agent_options
def command(  # noqa: PLR0913 - click hands over one argument per option
    options: AgentOptions,
    *,
    capability: str,
    words: tuple[str, ...],
    stream: bool,
    timeout_s: float | None,
    task_id: str | None,
    is_async: bool,
) -> int:
    """Call a capability of the agent and print its output.

    INPUT is JSON, @FILE, - for stdin, or plain words: key=text and key:=JSON.

    \b
      kos-agent call greet name=Ada count:=3
      kos-agent call greet '{"name": "Ada", "count": 3}'
      kos-agent call greet @input.json
      echo '{"name": "Ada"}' | kos-agent call greet -
      kos-agent call hello/greet name=Ada      of one agent of a mesh
      kos-agent call hello/greet name=Ada --url nats://HOST:4222

    Ctrl-C cancels the task. Exit codes: 0 completed, 1 failed, 2 wrong input, 3 no agent there.
    """  # noqa: D301 - the escape is click's mark
    document = request_document(capability, read_input(words), task_id, timeout_s)
    with open_calls(options) as calls:
        try:
            if is_async:
                return _start(calls, document, options)
            return _run(calls, document, options, stream=stream)
        except (ProblemError, TaskFailedError) as exc:
            if not exc.is_invalid_input or options.as_json:
                raise
            code = report(exc)
            _show_expected(calls, capability)
            return code


def request_document(
    capability: str, task_input: object, task_id: str | None, timeout_s: float | None
) -> dict[str, Any]:
    """Return the body of ``POST /v1/tasks``; a task without an id gets one, to cancel it by."""
    document = {
        "id": task_id or f"call-{os.urandom(ID_BYTES).hex()}",
        "capability": capability,
        "input": task_input,
    }
    return document if timeout_s is None else {**document, "timeout_s": timeout_s}


def _start(calls: Calls, document: dict[str, Any], options: AgentOptions) -> int:
    task = calls.start(document)
    if options.as_json:
        print_json(task)
        return 0
    task_id = clean_line(task.get("id", document["id"]))
    click.echo(task_id)
    say(calls.follow_hint(task_id))
    return 0


def _run(calls: Calls, document: dict[str, Any], options: AgentOptions, *, stream: bool) -> int:
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415 - not for --async

    try:
        with ProgressBar() as bar, closing(calls.send(document)) as updates:
            sink = ItemSink(bar, prints=stream)
            task = sink.drain(updates)
    except KeyboardInterrupt:
        _cancel(calls, str(document["id"]))
        raise
    check_completed(task)
    if sink.has_printed:
        return 0
    print_document(sink.output_of(task), as_json=options.as_json or stream)
    return 0


def _cancel(calls: Calls, task_id: str) -> None:
    """Cancel the task of an interrupted call; the user wants to leave, so nothing is awaited."""
    try:
        calls.cancel(task_id)
    except CommandError as exc:
        say(f"could not cancel task {task_id}: {clean_line(exc)}")
    else:
        say(f"canceled task {task_id}")


def _show_expected(calls: Calls, capability: str) -> None:
    """Show what the capability takes, below the error that the input does not fit."""
    from kagent_sdk.cli.commands.capabilities import join_offers, pick  # noqa: PLC0415
    from kagent_sdk.cli.screens.capabilities import expected_input  # noqa: PLC0415

    try:
        manifest = pick(join_offers(calls.capabilities()), capability)
    except CommandError:
        return  # the error that matters has been shown
    print_screen(expected_input(manifest), stderr=True)

"""kos-agent tasks."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.options import AgentOptions, agent_options
from kagent_sdk.cli.outcomes import check_completed
from kagent_sdk.cli.output import print_json, print_screen, say
from kagent_sdk.cli.task_query import TaskQuery
from kagent_sdk.cli.task_source import TaskSource, open_tasks
from kagent_sdk.cli.text import clean_line
from kagent_sdk.cli.watching import watch_json, watch_screen
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskState

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("tasks")
@click.argument("task_id", metavar="[ID]", required=False)
@click.option(
    "--state",
    type=click.Choice([str(state) for state in TaskState]),
    help="Only tasks in that state.",
)
@click.option("--capability", metavar="NAME", help="Only tasks of that capability.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="At most so many, the newest.",
)
@click.option("--agent", metavar="NAME", help="Of a mesh: only tasks of that agent.")
@click.option("--cancel", "to_cancel", metavar="ID", help="Cancel that task.")
@click.option("--watch", is_flag=True, help="Keep showing the list; of one task, wait for its end.")
@agent_options
def command(  # noqa: PLR0913 - click hands over one argument per option
    options: AgentOptions,
    *,
    task_id: str | None,
    state: str | None,
    capability: str | None,
    limit: int,
    agent: str | None,
    to_cancel: str | None,
    watch: bool,
) -> int:
    """List the tasks that the agent knows; with ID show that one.

    With ID and --watch the exit code is 1 when the task did not complete.
    """
    if to_cancel is not None:
        _refuse_both(task_id, to_cancel)
    with open_tasks(options) as tasks:
        if to_cancel is not None:
            return _cancel(tasks, options, to_cancel, agent)
        if task_id is not None:
            return _show_one(tasks, options, task_id, agent, watch=watch)
        return _show_list(tasks, options, TaskQuery(limit, state, capability, agent), watch=watch)


def _refuse_both(task_id: str | None, to_cancel: str) -> None:
    if task_id is not None:
        raise UsageError(f"to cancel a task its id is enough: kos-agent tasks --cancel {to_cancel}")


def _cancel(tasks: TaskSource, options: AgentOptions, task_id: str, agent: str | None) -> int:
    task = tasks.cancel(task_id, agent)
    if options.as_json:
        print_json(task)
    elif task.get("state") in FINAL_STATES:
        click.echo(f"task {clean_line(task_id)} is {clean_line(task['state'])}")
    else:
        click.echo(f"task {clean_line(task_id)} is being canceled")
    return 0


def _show_list(tasks: TaskSource, options: AgentOptions, query: TaskQuery, *, watch: bool) -> int:
    def fetch() -> dict[str, Any]:
        return {"tasks": tasks.list(query)}

    def render() -> RenderableType:
        from rich.text import Text  # noqa: PLC0415 - rich is for people

        from kagent_sdk.cli.screens.tasks import task_table  # noqa: PLC0415

        found = fetch()["tasks"]
        return task_table(found, datetime.now(UTC)) if found else Text("no tasks", "bright_black")

    if watch:
        watch_json(fetch) if options.as_json else watch_screen(render)
    elif options.as_json:
        print_json(fetch())
    else:
        print_screen(render())
    return 0


def _show_one(
    tasks: TaskSource, options: AgentOptions, task_id: str, agent: str | None, *, watch: bool
) -> int:
    if watch:
        _wait(tasks, task_id, agent)
    task = tasks.find(task_id, agent)
    if options.as_json:
        print_json(task)
    else:
        from kagent_sdk.cli.screens.tasks import task_detail  # noqa: PLC0415

        print_screen(task_detail(task, datetime.now(UTC)))
    if watch:
        check_completed(task)
    return 0


def _wait(tasks: TaskSource, task_id: str, agent: str | None) -> None:
    """Follow a task to its end, with its progress on stderr; leaving does not cancel it."""
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415

    try:
        with ProgressBar() as bar, closing(tasks.follow(task_id, agent)) as updates:
            for update in updates:
                if update.kind == "progress":
                    bar.show(update.data)
    except KeyboardInterrupt:
        say(f"task {clean_line(task_id)} goes on")
        raise

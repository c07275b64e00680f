"""aiomonitor's commands, without its servers: no port is opened, and none of its threads started.

Left out on purpose:

- ``signal``: the host ends workers, and a signal from within cannot be told from its own;
- ``ps-terminated`` and ``where-terminated``: they need aiomonitor's task factory, which costs every
  asyncio task 66 µs;
- ``console``: it listens on a TCP port; ours is `kagent_sdk.debug.console`;
- ``help``, ``exit``, ``noop``: of its own prompt.

What we lean on of it that is private is named by ``tests/unit/debug/test_monitor.py``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click
from aiomonitor.context import command_done, current_monitor, current_stdout
from aiomonitor.exceptions import MissingTask
from aiomonitor.monitor import Monitor
from aiomonitor.termui.commands import do_stacktrace
from aiomonitor.termui.completion import complete_task_id
from click.shell_completion import CompletionItem
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import DummyInput
from prompt_toolkit.output.plain_text import PlainTextOutput

from kagent_sdk.debug.port import Session

CANCEL_S = 5.0
"""A job that has not ended so long after its cancellation is reported as such."""

POLL_S = 0.1
"""How soon a command that waits for the agent's loop notices that nobody waits for it."""

LOOP_BLOCKED = "the agent's loop does not answer: `stacks` shows what holds it"


def make_monitor(loop: asyncio.AbstractEventLoop) -> Monitor:
    """Return aiomonitor's view of a loop. It is never started."""
    # It would log that it starts to listen, which it does not.
    logging.getLogger("aiomonitor.monitor").setLevel(logging.WARNING)
    monitor = Monitor(loop, console_enabled=False, hook_task_factory=False)
    # Set by start() to the thread that calls it; agents run their loop in the main one.
    thread = getattr(loop, "_thread_id", None) or threading.main_thread().ident
    monitor._event_loop_thread_id = thread  # noqa: SLF001 - `stacktrace` needs it
    return monitor


def make_commands(monitor: Monitor) -> list[click.Command]:
    """Return ``ps``, ``where``, ``cancel`` and ``stacktrace``, run with a `Session` as ``ctx.obj``."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with _monitoring(monitor, None):
            return [CompletionItem(job) for job in complete_task_id(ctx, param, incomplete)]

    job = click.Argument(["job"], type=int, shell_complete=complete, metavar="JOB")
    needle = click.Option(["-f", "--filter", "needle"], help="Only jobs with this in their name.")
    return [
        _command("ps", _show_jobs, monitor, [needle]),
        _command("where", _show_stack, monitor, [job]),
        _command("cancel", _cancel, monitor, [job]),
        _command("stacktrace", _show_loop_thread, monitor, []),
    ]


@contextmanager
def _monitoring(monitor: Monitor, out: TextIO | None) -> Iterator[None]:
    """Set what aiomonitor's commands look for in their context."""
    tokens = (current_monitor.set(monitor), current_stdout.set(out), command_done.set(_Done()))
    try:
        if out is None:
            yield
        else:
            with create_app_session(input=DummyInput(), output=PlainTextOutput(out)):
                yield
    finally:
        for variable, token in zip(
            (current_monitor, current_stdout, command_done), tokens, strict=True
        ):
            variable.reset(token)


class _Done(threading.Event):
    """Stands for the asyncio event that every command of aiomonitor sets when it is done."""


def _command(
    name: str,
    run: Callable[..., None],
    monitor: Monitor,
    params: list[click.Parameter],
) -> click.Command:
    @functools.wraps(run)
    def callback(**values: Any) -> None:
        session = click.get_current_context().find_object(Session)
        assert session is not None
        with _monitoring(monitor, session.out):
            run(session, monitor, **values)

    return click.Command(name, callback=callback, params=params, help=run.__doc__)


def _show_jobs(session: Session, monitor: Monitor, needle: str | None) -> None:
    """List the jobs (asyncio tasks) of the agent's loop."""
    jobs = monitor.format_running_task_list(needle or "", persistent=False)
    rows = [("JOB", "STATE", "NAME", "COROUTINE")]
    rows += [(job.task_id, job.state.lower(), job.name, job.coro) for job in jobs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        session.out.write("  ".join(cells).rstrip() + "\n")


def _show_stack(session: Session, monitor: Monitor, job: int) -> None:
    """Show where a job of the agent's loop stands."""
    try:
        items = monitor.format_running_task_stack(job)
    except MissingTask:
        raise _no_such(job) from None
    # Before these two stands who created it, which only the task factory would know.
    header, stack = items[-2:]
    session.out.write(f"{header.content}:\n{stack.content.rstrip()}\n")


def _cancel(session: Session, monitor: Monitor, job: int) -> None:
    """Cancel a job of the agent's loop, and wait until it has ended."""
    request = monitor.cancel_monitored_task(job)
    try:
        future = asyncio.run_coroutine_threadsafe(request, monitor._monitored_loop)  # noqa: SLF001
    except RuntimeError:
        request.close()
        raise click.ClickException("the agent's loop has ended") from None
    try:
        name = _wait(future, session)
    except ValueError:
        raise _no_such(job) from None
    except TimeoutError:
        raise click.ClickException(
            f"job {job} has not ended after {CANCEL_S:g} s: {LOOP_BLOCKED}"
        ) from None
    session.out.write(f"cancelled {job} ({name})\n")


def _show_loop_thread(session: Session, monitor: Monitor) -> None:
    """Show the stack of the thread that the agent's loop runs in, also while it is blocked."""
    assert do_stacktrace.callback is not None
    with click.Context(do_stacktrace, obj=monitor):
        do_stacktrace.callback()
    del session


def _wait(future: concurrent.futures.Future[str], session: Session) -> str:
    waited_s = 0.0
    while True:
        done, _ = concurrent.futures.wait([future], timeout=POLL_S)
        if done:
            return future.result()
        waited_s += POLL_S
        if waited_s >= CANCEL_S or session.is_over():
            future.cancel()
            raise TimeoutError


def _no_such(job: int) -> click.ClickException:
    return click.ClickException(f"there is no job {job} in the agent's loop: see `ps`")

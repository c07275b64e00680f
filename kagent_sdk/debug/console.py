"""The Python console of a debug session: runs in the agent's loop, and leaves nothing behind there.

aiomonitor's listens on a TCP port, so this is not that. Code and what it awaits run as jobs of the
agent's loop, where the author's objects are at home; its thread waits for them, never the loop for
the client. Only the console's own ``print`` goes to the session: ``sys.stdout`` and
``sys.displayhook`` are the agent's.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import pydoc
import queue
import time
from typing import Any, NoReturn

import click

from kagent_sdk.debug.completion import NameCompleter
from kagent_sdk.debug.console_code import SHOW, compile_source, is_whole
from kagent_sdk.debug.console_jobs import ConsoleJobs, end_all
from kagent_sdk.debug.evaluation import ConsoleOutput, Evaluation, format_error
from kagent_sdk.debug.port import Inspected
from kagent_sdk.debug.prompter import InterruptError
from kagent_sdk.debug.running import CommandSession

TAKE_S = 2.0
"""The agent's loop begins what was typed within this, or it is not run at all."""

CLEAR_S = 1.0
"""Its jobs may take so long to end."""

MAX_SOURCE_CHARS = 64 * 1024
"""Of one statement, over all its lines."""

MAX_SHOWN_CHARS = 100_000
"""Of one value."""

BLOCKED = (
    "the agent's loop did not take it within 2 s, so it was not run: `stacks` shows what holds it\n"
)
STUCK = (
    "the agent's loop has not let go of it within 2 s; it ends when it can: "
    "`stacks` shows where it is\n"
)
GREETING = (
    "Python in the agent's loop, with `agent`, `await state(KEY)` and `await`. "
    "Ctrl-D or exit() leaves.\n"
)
NOT_HERE = "there is no input in a debug console"


@click.command("console")
@click.argument("code", required=False)
@click.pass_obj
def console_command(session: CommandSession, code: str | None) -> None:
    """Run Python in the agent's loop, with `agent`, `state` and `await`; or CODE alone."""
    assert session.jobs is not None
    assert session.running is not None
    with session.jobs.tracking() as jobs:
        console = Console(session, jobs)
        try:
            # All the time, or a Ctrl-C between two statements would end the console.
            with session.running.listening(console.interrupt):
                if code is None:
                    console.converse()
                elif not console.evaluate(code):
                    raise click.exceptions.Exit(1)
        finally:
            console.close()


class Console:
    """One console; for the thread of its command."""

    def __init__(self, session: CommandSession, jobs: ConsoleJobs) -> None:
        self._session = session
        self._loop = session.inspected.loop
        self._jobs = jobs
        self._output = ConsoleOutput()
        self._evaluation: Evaluation | None = None
        self.is_over = False
        self._variables = make_variables(session.inspected, self._output)
        self._completer = NameCompleter(self._variables)

    def converse(self) -> None:
        """Run one statement after the other, until there are no more."""
        if self._session.is_screen:
            self._session.out.write(GREETING)
        while (source := self._read()) is not None:
            if source.strip():
                self.evaluate(source)
            if self.is_over:
                return

    def evaluate(self, source: str) -> bool:
        """Run a source and pass on what it prints; return whether it did what it should."""
        try:
            code = compile_source(source)
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            self._tell(format_error(error.with_traceback(None)))
            return False
        evaluation = Evaluation(code, self._variables, self._output)
        self._evaluation = evaluation
        if self._session.is_over():
            self.interrupt()
        self._follow(evaluation)
        self._evaluation = None
        self.is_over = evaluation.wants_exit or self._session.is_over()
        return evaluation.has_ended and not evaluation.has_failed

    def interrupt(self) -> None:
        """Cancel what is awaited: Ctrl-C was typed, or nobody waits any more. For any thread."""
        evaluation = self._evaluation
        if evaluation is not None:
            evaluation.give_up()
        self._output.wake()

    def close(self) -> None:
        """End the jobs and drop the variables; output of what still ends is dropped."""
        self._output.close()
        with contextlib.suppress(RuntimeError, TimeoutError):
            clearing = _clear(self._variables, self._jobs)
            try:
                cleared = asyncio.run_coroutine_threadsafe(clearing, self._loop)
            except RuntimeError:  # the loop has ended
                clearing.close()
                raise
            cleared.result(CLEAR_S)
        # Once more, for the loop that did not take it.
        self._variables.clear()

    def _read(self) -> str | None:
        """Return the next statement; None at the end."""
        assert self._session.running is not None
        assert self._session.history is not None
        lines: list[str] = []
        while True:
            try:
                prompt = "... " if lines else ">>> "
                line = self._session.running.ask(prompt, self._session.history, self._completer)
            except InterruptError:
                lines.clear()
                continue
            except EOFError:
                return "\n".join(lines) if lines else None
            lines.append(line)
            source = "\n".join(lines)
            if len(source) > MAX_SOURCE_CHARS:
                self._tell(f"a statement has {MAX_SOURCE_CHARS} characters at most\n")
                lines.clear()
            elif _can_run(source):
                return source

    def _follow(self, evaluation: Evaluation) -> None:
        try:
            evaluation.submit(self._loop, self._jobs)
        except RuntimeError:
            self._tell("the agent's loop has ended\n")
            return
        was_taken = evaluation.settled.wait(TAKE_S)
        if not was_taken:
            evaluation.give_up()
        if evaluation.has_begun:
            self._pass_on(evaluation)
        elif not was_taken:
            self._tell(BLOCKED)

    def _pass_on(self, evaluation: Evaluation) -> None:
        """Write what is printed until the evaluation has ended, or is stuck after it was given up."""
        events = self._output.events
        limit: float | None = None
        while not (evaluation.has_ended and events.empty()):
            if limit is None and evaluation.is_given_up:
                limit = time.monotonic() + TAKE_S
            try:
                text = events.get(
                    timeout=None if limit is None else max(0, limit - time.monotonic())
                )
            except queue.Empty:
                self._tell(STUCK)
                return
            if text is not None:
                self._session.out.write(text)
                self._output.taken(text)
        self._session.end_line()

    def _tell(self, text: str) -> None:
        self._session.out.write(text)
        self._session.end_line()


async def _clear(variables: dict[str, Any], jobs: ConsoleJobs) -> None:
    """Let the author's objects go where they are at home: in the agent's loop."""
    try:
        await end_all(jobs, CLEAR_S)
    finally:
        variables.clear()


def make_variables(inspected: Inspected, output: ConsoleOutput) -> dict[str, Any]:
    """Return what console code finds, beside the built-in names."""
    variables: dict[str, Any] = {
        "__name__": "__console__",
        "__builtins__": builtins,
        "agent": inspected.agent,
        "state": inspected.state,
        "asyncio": asyncio,
        "print": functools.partial(print, file=output),
        "help": functools.partial(_help, output),
        "exit": _leave,
        "quit": _leave,
        "input": _no_input,
        "breakpoint": _no_input,
    }

    def show(value: object) -> None:
        if value is not None:
            variables["_"] = value
            output.write(_shown(inspected.redact(repr(value))))

    variables[SHOW] = show
    return variables


def _shown(text: str) -> str:
    cut = "" if len(text) <= MAX_SHOWN_CHARS else f"… [{len(text)} characters]"
    return f"{text[:MAX_SHOWN_CHARS]}{cut}\n"


def _help(output: ConsoleOutput, subject: object = None) -> None:
    """Print a subject's documentation; the built-in ``help`` wants a pager and a keyboard."""
    text = (
        "help(SUBJECT) explains an object"
        if subject is None
        else pydoc.plain(pydoc.render_doc(subject))
    )
    output.write(text + "\n")


def _leave(code: object = None) -> NoReturn:
    """Leave the console; the built-in one would close the agent's stdin."""
    raise SystemExit(code)


def _no_input(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(NOT_HERE)


def _can_run(source: str) -> bool:
    try:
        return is_whole(source)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return True  # what compiles it tells of the error

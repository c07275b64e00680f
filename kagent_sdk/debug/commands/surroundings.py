"""loops, secrets, state KEY, log LEVEL: what the agent has around its tasks."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import click

from kagent_sdk.debug.commands.output import Command, json_option, say, say_json, say_table
from kagent_sdk.debug.port import Session
from kagent_sdk.debug.probes.names import clean

LOOP_TIMEOUT_S = 2.0
"""How long the agent's loop has for an answer: it may be blocked."""

MAX_STATE_CHARS = 256 * 1024
LEVELS = ("debug", "info", "warning", "error")


@click.command("loops", cls=Command)
@json_option
@click.pass_obj
def loops(session: Session, *, as_json: bool) -> None:
    """Show the agent's loops: state, runs, failures, last error.

    Example: kos-agent debug . loops
    """
    redact = session.inspected.redact
    views = session.inspected.loops()
    if as_json:
        document = [
            {
                "name": view.name,
                "state": view.state,
                "runs": view.runs,
                "failures": view.failures,
                "last_error": view.last_error and redact(view.last_error),
            }
            for view in views
        ]
        say_json(session, {"loops": document})
    elif views:
        rows = [
            (
                clean(view.name),
                view.state,
                str(view.runs),
                str(view.failures),
                clean(redact(view.last_error or "-")),
            )
            for view in views
        ]
        heads = ("LOOP", "STATE", "RUNS", "FAILURES", "LAST ERROR")
        say_table(session, heads, rows, right="RUNS FAILURES")
    else:
        say(session, "no loops")


@click.command("secrets", cls=Command)
@json_option
@click.pass_obj
def secrets(session: Session, *, as_json: bool) -> None:
    """Show the names of the secrets that the worker was given, never a value.

    Example: kos-agent debug . secrets
    """
    names = sorted(session.inspected.secret_names())
    if as_json:
        say_json(session, {"secrets": names})
        return
    for name in names:
        say(session, clean(name))
    if not names:
        say(session, "no secrets")


@click.command("state", cls=Command)
@click.argument("key")
@click.pass_obj
def state(session: Session, key: str) -> None:
    """Print a value of the agent's state as JSON.

    The agent's loop is asked, for 2 s at most: while it is blocked there is no answer.

    Example: kos-agent debug . state totals
    """
    value = _ask_loop(session, key)
    text = json.dumps(value, indent=2, ensure_ascii=True)
    if len(text) > MAX_STATE_CHARS:
        raise click.ClickException(
            f"the value has {len(text)} characters, more than the {MAX_STATE_CHARS} that are shown; "
            "'kos-agent snapshot' keeps all of the state"
        )
    say(session, text)


@click.command("log", cls=Command)
@click.argument("level", type=click.Choice(LEVELS, case_sensitive=False))
@click.pass_obj
def log(session: Session, level: str) -> None:
    """Write log records from this level on, until the worker ends.

    Example: kos-agent debug . log debug
    """
    session.inspected.set_log_level(level)
    say(session, f"log records are written from {level} on, until the worker ends")


def _ask_loop(session: Session, key: str) -> Any:
    inspected = session.inspected
    answer = asyncio.run_coroutine_threadsafe(_read(session, key), inspected.loop)
    try:
        return answer.result(LOOP_TIMEOUT_S)
    except FutureTimeoutError:
        answer.cancel()
        raise click.ClickException(
            f"the agent's loop did not answer within {LOOP_TIMEOUT_S:g} s: it is blocked; "
            "'stacks' shows where"
        ) from None
    except KeyError:
        raise click.ClickException(f"the state has no key {clean(key)!r}") from None
    except CancelledError:
        raise click.ClickException("the agent's loop has ended") from None
    finally:
        del answer  # its error leads to this frame


async def _read(session: Session, key: str) -> object:
    return await session.inspected.state(key)

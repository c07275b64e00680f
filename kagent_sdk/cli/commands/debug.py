"""kos-agent debug: look into a living worker."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.location import find_host, is_elsewhere, show_path
from kagent_sdk.cli.text import clean_line

OWN_SOCKET = Path("runtime", "debug.sock")

CONSOLE = "console"
"""The command that reads lines."""

TURN_ON = "set debug.enabled: true in config.yaml, or AGENT_DEBUG__ENABLED=true, and restart it"


@click.command("debug", context_settings={"allow_interspersed_args": False})
@click.argument("target", metavar="[DIR|SOCKET]", default=".")
@click.argument("words", metavar="[COMMAND [ARGUMENT]...]", nargs=-1, type=click.UNPROCESSED)
def command(target: str, words: tuple[str, ...]) -> int:
    """Look into the worker of an agent that runs on this machine.

    DIR is the agent's folder, the current one if not given; SOCKET is its debug socket. Without a
    COMMAND this terminal is attached to the worker (Ctrl-D detaches), or the commands are read from
    stdin. With one, it is run, and its exit code is that of kos-agent.

    \b
    kos-agent debug                    attach to the agent in the current folder
    kos-agent debug . stacks           every thread of the worker, even if nothing moves in it
    kos-agent debug . memory --json    one command; options behind it are its own
    kos-agent debug . help             the commands there are

    The agent must run with debug.enabled. Whoever attaches can run code in it.
    """  # noqa: D301 - click wants the character
    path = find_socket(Path(target), words)
    way = f"kos-agent debug {shlex.quote(target)} stacks"
    hint = f"the worker does not answer; `{way}` asks the host what it is doing"
    if not words and os.isatty(0):
        return _attach(path, target, hint)
    from kagent_sdk.cli.debug_client import DebugConnection  # noqa: PLC0415 - not for help
    from kagent_sdk.cli.debug_pipe import PipedSession  # noqa: PLC0415

    # Of a loop in a script that reads lines, a command must not eat the rest.
    reads_stdin = not os.isatty(0) and words[:1] in {(), (CONSOLE,)}
    with DebugConnection(path) as connection:
        return PipedSession(connection, hint).run(words or None, reads_stdin=reads_stdin)


def find_socket(target: Path, words: tuple[str, ...]) -> Path:
    """Return the debug socket of an agent's folder, or the one that is named.

    Raises:
        UsageError: there is neither a folder nor a socket.
        UnreachableError: no agent runs there.
        CommandError: it has no debug socket, or one that is out of reach.
    """
    try:
        is_socket, is_folder = target.is_socket(), target.is_dir()
    except PermissionError:
        raise CommandError(
            f"{show_path(target)} is closed to you; become the user that runs the agent, or root",
            code="not_permitted",
        ) from None
    if is_socket:
        return target
    if not is_folder:
        shown = clean_line(target)
        way = clean_line(shlex.join([str(target), *words]))
        raise UsageError(
            f"'{shown}' is neither an agent's folder nor a debug socket; for a command to the agent in "
            f"the current folder: kos-agent debug . {way}"
        )
    document = find_host(target)
    shown = show_path(target)
    if is_elsewhere(document):
        if (target / OWN_SOCKET).is_socket():
            return target / OWN_SOCKET
        raise CommandError(
            f"the agent of {shown} runs in a container: run this command in it, such as "
            "podman exec -it CONTAINER kos-agent debug",
            code="debug_elsewhere",
        )
    path, fault = document.get("debug_socket"), document.get("debug_fault")
    if isinstance(path, str):
        return Path(path)
    if isinstance(fault, str):
        raise CommandError(
            f"the agent in {shown} has no debug socket: {clean_line(fault)}",
            code="debug_not_available",
        )
    raise CommandError(f"debugging is off for the agent in {shown}; {TURN_ON}", code="debug_off")


def _attach(path: Path, target: str, hint: str) -> int:
    if not os.isatty(1):
        raise UsageError(
            "stdout is no terminal to attach; give a command: "
            f"kos-agent debug {clean_line(shlex.quote(target))} COMMAND, or `help` for those there are"
        )
    from kagent_sdk.cli.debug_terminal import attach  # noqa: PLC0415 - not for help

    return attach(path, hint)

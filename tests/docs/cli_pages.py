"""The reference of ``kos-agent``: every command with its arguments and options, from click's tree.

Nothing of it is click's own text, which is another one from release to release.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import click

from kagent_sdk.cli.main import SECTIONS, cli
from tests.docs.tables import code, make_table

PROGRAM = "kos-agent"

AGENT_OPTIONS = frozenset({"directory", "url", "token_file", "client_cert"})
"""What `kagent_sdk.cli.options.agent_options` gives to a command; described once."""

AGENT_ANCHOR = "which-agent"

_NAMES = re.compile(
    r"(?<![\w./`:])(?:"
    r"--[a-z][a-z-]*(?: [A-Z]+\b)?|-[A-Z] [A-Z]+\b"  # options
    r"|AGENT(?:\\_|[A-Z<>\\])+"  # variables
    r"|[\w\\./-]*\w\.(?:yaml|py|txt|json)\b"  # files
    r"|[a-z]+\.[a-z][a-z.\\_]*[a-z]\b"  # keys of config.yaml
    r")"
)
"""What is set as code."""


def cli_reference() -> str:
    """Return a chapter for each section of the help, and in it a part for each command."""
    context = click.Context(cli, info_name=PROGRAM)
    parts = [_overview(), *_which_agent(context)]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in section:
            command = cli.get_command(context, name)
            assert command is not None
            parts += _describe(command, f"{PROGRAM} {name}", depth=3)
    return "\n".join(parts)


def _overview() -> str:
    rows = [
        (f"[`{PROGRAM} {name}`](#{PROGRAM}-{name})", entry.summary)
        for section in SECTIONS.values()
        for name, entry in section.items()
    ]
    return make_table(("command", "what it does"), rows)


def _which_agent(context: click.Context) -> Iterator[str]:
    """Describe the options that most commands share, as the first of these has them."""
    command = cli.get_command(context, "status")
    assert command is not None
    shared = [
        each
        for each in command.params
        if isinstance(each, click.Option) and each.name in AGENT_OPTIONS
    ]
    yield "## Which agent\n"
    yield "Commands that talk to an agent take these, and find it in the current folder without them.\n"
    yield make_table(("option", "default", "meaning"), map(_option_row, shared))


def _describe(command: click.Command, path: str, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} `{path}`\n"
    children = dict(_children(command))
    words = [path, *_usage(command), *(["COMMAND"] if children else [])]
    yield f"```text\n{' '.join(words)}\n```\n"
    yield from (f"{_paragraph(each)}\n" for each in _help_of(command).split("\n\n") if each)
    yield from _options(command)
    for name, child in children.items():
        yield from _describe(child, f"{path} {name}", depth + 1)


def _children(command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield name, child


def _help_of(command: click.Command) -> str:
    # A form feed ends what is shown.
    return inspect.cleandoc(command.help or "").partition("\f")[0].strip()


def _paragraph(text: str) -> str:
    # A line with \b says that those below it stay as they are.
    if text.startswith("\b\n"):
        return f"```text\n{dedent(text.removeprefix(chr(8))).strip()}\n```"
    return _plain(text)


def _plain(text: str) -> str:
    """Return words as Markdown: what looks like a name in code is code."""
    line = " ".join(text.split())
    escaped = re.sub(r"[\\*<_]", r"\\\g<0>", line)
    return _NAMES.sub(lambda match: f"`{match[0].replace(chr(92), '')}`", escaped)


def _options(command: click.Command) -> Iterator[str]:
    options = [
        each for each in command.params if isinstance(each, click.Option) and not each.hidden
    ]
    names = {each.name for each in options}
    own = [each for each in options if not (names >= AGENT_OPTIONS and each.name in AGENT_OPTIONS)]
    if own:
        yield make_table(("option", "default", "meaning"), map(_option_row, own))
    if len(own) < len(options):
        yield f"And those that [name an agent](#{AGENT_ANCHOR}): {_names(options, AGENT_OPTIONS)}.\n"


def _names(options: list[click.Option], wanted: frozenset[str]) -> str:
    return ", ".join(code(max(each.opts, key=len)) for each in options if each.name in wanted)


def _usage(command: click.Command) -> Iterator[str]:
    if any(isinstance(each, click.Option) and not each.hidden for each in command.params):
        yield "[OPTIONS]"
    for each in command.params:
        if isinstance(each, click.Argument):
            yield _argument(each)


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    text = (argument.name or "").upper()
    if argument.nargs == -1:
        text += "..."
    return text if argument.required else f"[{text}]"


def _option_row(option: click.Option) -> tuple[str, str, str]:
    *others, longest = sorted(option.opts, key=len)
    value = "" if option.is_flag or option.count else f" {_value(option)}"
    names = [*others, longest + value, *option.secondary_opts]
    return (", ".join(map(code, names)), _default(option), _meaning(option))


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    kind: Any = option.type
    if isinstance(kind, click.Choice):
        return "|".join(str(each) for each in kind.choices)
    if isinstance(kind, click.Path | click.File):
        return "PATH"
    return {"integer": "INTEGER", "float": "NUMBER"}.get(kind.name.removesuffix(" range"), "TEXT")


def _default(option: click.Option) -> str:
    """Return the default as one would type it; what stands for "none given" differs by release."""
    value: object = option.default
    if value is None or value in (False, ()) or isinstance(value, enum.Enum) or callable(value):
        return ""
    return "on" if value is True else code(str(value))


def _meaning(option: click.Option) -> str:
    text = _plain(option.help or "")
    kind: Any = option.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        text += f" {_range(kind)}."
    if option.envvar:
        names = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar)
        text += f" Environment: {', '.join(map(code, names))}."
    if option.multiple:
        text += " May be given several times."
    return f"{text} Required." if option.required else text


def _range(kind: Any) -> str:
    low = None if kind.min is None else f"{'above ' if kind.min_open else ''}{kind.min}"
    high = None if kind.max is None else f"{'below ' if kind.max_open else ''}{kind.max}"
    if low is None or high is None:
        return (low or f"at most {high}").capitalize() + " or more" * (not kind.min_open)
    return f"{low} to {high}".capitalize()

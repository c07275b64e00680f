"""kos-agent init."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk import __version__
from kagent_sdk.cli.boundary import CommandError, UsageError
from kagent_sdk.cli.options import json_option, with_errors
from kagent_sdk.cli.output import print_json
from kagent_sdk.cli.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

TEMPLATES = ("hello",)
RENAMED = {"gitignore": ".gitignore"}
"""A .gitignore inside the package would hide the template itself from git and from the wheel."""

# As AgentConfig.name, which is not imported for one pattern: it costs pydantic.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@click.command("init")
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default="hello",
    show_default=True,
    help="Which agent to begin with.",
)
@json_option
def command(folder: Path, template: str, *, as_json: bool) -> int | None:
    """Make a working agent, with a passing test, in a new folder.

    NAME is the agent's name, or a path that ends with it.
    """

    def make() -> None:
        written = make_agent(folder, template)
        if as_json:
            print_json({"folder": str(folder), "files": written})
        else:
            _tell(folder, written)

    return with_errors(make, as_json=as_json)


def make_agent(folder: Path, template: str) -> list[str]:
    """Write an agent into a folder that is new or empty; return the names of its files.

    Raises:
        UsageError: the name is none for an agent, or the folder is not empty.
        CommandError: it cannot be written.
    """
    name = folder.absolute().name
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"'{clean_line(name)}' cannot name an agent; use up to 63 letters, digits, '-', '_' "
            "and '.', beginning and ending with a letter or digit"
        )
    _refuse_occupied(folder)
    words = {"AGENT_NAME": name, "SDK_VERSION": __version__}
    written: list[str] = []
    try:
        for path, source in template_files(template):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            for placeholder, word in words.items():
                text = text.replace(placeholder, word)
            # "x": what someone else put there in the meantime is not overwritten.
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
            written.append(str(path))
    except OSError as exc:
        raise CommandError(f"cannot write to {clean_line(folder)}: {exc.strerror}") from exc
    return written


def template_files(template: str) -> list[tuple[Path, Traversable]]:
    """Return the files of a template, with the paths that they get in the agent's folder."""
    root = files("kagent_sdk.cli") / "templates" / template
    return sorted(_walk(root, Path()), key=lambda pair: pair[0])


def _walk(folder: Traversable, path: Path) -> Iterator[tuple[Path, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _walk(entry, path / entry.name)
        else:
            yield path / RENAMED.get(entry.name, entry.name), entry


def _refuse_occupied(folder: Path) -> None:
    try:
        # An empty repository is as good as an empty folder.
        is_occupied = any(entry.name != ".git" for entry in folder.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{clean_line(folder)} is a file; take another name") from None
    except OSError as exc:
        raise CommandError(f"cannot look into {clean_line(folder)}: {exc.strerror}") from exc
    if is_occupied:
        raise UsageError(f"{clean_line(folder)} is not empty; take a new folder, or empty this one")


def _tell(folder: Path, written: list[str]) -> None:
    shown = clean_line(folder)
    click.echo(f"made the agent {clean_line(folder.absolute().name)} in {shown}")
    for path in written:
        click.echo(f"  {path}")
    click.echo("\nnext")
    click.echo(f"  kos-agent run {shown}")
    click.echo(f"  kos-agent call greet name=Ada -C {shown}")
    click.echo(f"  pytest {shown}")

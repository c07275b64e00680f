"""kos-agent config: check and schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.options import FOLDER, json_option, with_errors
from kagent_sdk.cli.output import print_json, print_screen
from kagent_sdk.cli.text import clean_line, safe_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kagent_sdk.cli.origins import Setting
    from kagent_sdk.config import LoadedConfig


@click.group("config", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Check config.yaml and the environment, or print the JSON Schema of config.yaml."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("check")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@json_option
def check(directory: Path, *, as_json: bool) -> int | None:
    """Say whether the agent in DIR would start with its configuration, and what is set where.

    Reads config.yaml, AGENT_<SECTION>__<KEY> and the vault. The exit code is 78 when one of them
    is wrong.
    """
    return with_errors(lambda: _check(directory, as_json=as_json), as_json=as_json)


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of config.yaml, for editors and for CI."""
    from kagent_sdk.config import config_schema  # noqa: PLC0415 - pydantic, not for the help

    click.echo(safe_json(config_schema(), indent=2))


def _check(directory: Path, *, as_json: bool) -> None:
    from kagent_sdk.cli.origins import list_settings  # noqa: PLC0415 - pydantic and yaml
    from kagent_sdk.config import read_config  # noqa: PLC0415
    from kagent_sdk.host.confinement import find_confinement  # noqa: PLC0415
    from kagent_sdk.host.link_checks import check_link, load_link_token  # noqa: PLC0415
    from kagent_sdk.host.policy_checks import check_policy  # noqa: PLC0415
    from kagent_sdk.host.vault import read_vault  # noqa: PLC0415

    if not directory.is_dir():
        raise UsageError(f"there is no folder {clean_line(directory)}")
    loaded = read_config(directory, environ=os.environ)
    vault = read_vault(directory, loaded.config.secrets)
    check_link(loaded.config, directory)
    load_link_token(vault, loaded.config.orchestrator, os.environ)
    check_policy(loaded, find_confinement(directory, loaded.config, os.environ))
    settings = list_settings(loaded, os.environ)
    if as_json:
        print_json(_document(loaded, settings))
    else:
        _tell(loaded, settings)


def _document(loaded: LoadedConfig, settings: Sequence[Setting]) -> dict[str, Any]:
    return {
        "ok": True,
        "file": None if loaded.path is None else str(loaded.path),
        "set": [{"key": one.key, "value": one.value, "origin": one.origin} for one in settings],
        "config": loaded.config.model_dump(mode="json"),
    }


def _tell(loaded: LoadedConfig, settings: Sequence[Setting]) -> None:
    from kagent_sdk.cli.screens.settings import setting_table  # noqa: PLC0415 - rich is for people

    name = "no config.yaml" if loaded.path is None else clean_line(loaded.path.name)
    click.echo(f"{name}: ok" if loaded.path is not None else f"{name}: defaults serve")
    if settings:
        print_screen(setting_table(settings))
    else:
        click.echo("nothing is set; see what can be: kos-agent config schema")

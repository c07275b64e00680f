"""kos-agent snapshot: create, list, inspect, restore and verify."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kagent_sdk.cli.boundary import EXIT_FAILED, CommandError, UnreachableError
from kagent_sdk.cli.options import FOLDER, AgentOptions, agent_options, json_option, with_errors
from kagent_sdk.cli.output import print_json, print_screen, say
from kagent_sdk.cli.text import clean_line, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from kagent_sdk.cli.client import AgentClient
    from kagent_sdk.cli.progress import ProgressBar

    Command = Callable[..., int | None]

WAIT_S = 20
"""One request waits so long; the client's own patience ends 10 s later."""
POLL_S = 0.5

_shelf_option = click.option(
    "-C",
    "--dir",
    "directory",
    type=FOLDER,
    default=".",
    help="Folder of the agent whose snapshots are meant; the current one if not given.",
)
_SNAPSHOT = "SNAPSHOT is a file, an address (s3://…), or a name that kos-agent snapshot list shows."


@click.group("snapshot", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Put the agent's state and open tasks into a file, and make an agent of it again."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("create")
@click.option(
    "--cache/--no-cache",
    default=None,
    help="With the files of runtime/cache, or without; else as snapshots.include_cache says.",
)
@agent_options
def create(options: AgentOptions, *, cache: bool | None) -> int:
    """Make a snapshot of the running agent, which goes on."""
    from kagent_sdk.cli.client import encode_json  # noqa: PLC0415 - http.client, not for help
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415

    client = options.connect()
    with ProgressBar() as bar:
        bar.show({"message": "making a snapshot"})
        answer = client.request(
            "POST", "/v1/snapshots", encode_json({"cache": cache}), {"Prefer": f"wait={WAIT_S}"}
        )
        document = client.answered(answer)
        if answer.status == 202:
            document = _wait(client)
    if options.as_json:
        print_json(document)
    else:
        size = document.get("size_bytes")
        click.echo(clean_line(document.get("name")))
        say(format_bytes(size) if isinstance(size, int) else "made")
    return 0


@command.command("list")
@_shelf_option
@json_option
def list_(directory: Path, *, as_json: bool) -> int | None:
    """List the agent's snapshots, the newest first."""
    return with_errors(lambda: _list(directory, as_json=as_json), as_json=as_json)


@command.command("inspect", epilog=_SNAPSHOT)
@click.argument("snapshot", metavar="SNAPSHOT")
@_shelf_option
@json_option
def inspect(snapshot: str, directory: Path, *, as_json: bool) -> int | None:
    """Show what a snapshot says of itself."""
    return with_errors(lambda: _inspect(snapshot, directory, as_json=as_json), as_json=as_json)


@command.command("verify", epilog=_SNAPSHOT)
@click.argument("snapshot", metavar="SNAPSHOT")
@_shelf_option
@json_option
def verify(snapshot: str, directory: Path, *, as_json: bool) -> int | None:
    """Check a snapshot, member by member.

    All of it is read. The exit code is 1 when something is damaged.
    """
    return with_errors(lambda: _verify(snapshot, directory, as_json=as_json), as_json=as_json)


@command.command("restore", epilog=_SNAPSHOT)
@click.argument("snapshot", metavar="SNAPSHOT")
@click.argument("directory", metavar="[DIR]", type=FOLDER, default=".")
@click.option(
    "--force",
    is_flag=True,
    help="Also from another agent or version, or where a journal is, which is kept aside.",
)
@json_option
def restore(snapshot: str, directory: Path, *, force: bool, as_json: bool) -> int | None:
    """Give an agent the contents of a snapshot.

    The agent in DIR must not run. It gets the state, the open tasks and, if the snapshot has it, the
    cache. Everything is checked first; when something is wrong, the agent stays as it is.
    """
    return with_errors(
        lambda: _restore(snapshot, directory, is_forced=force, as_json=as_json), as_json=as_json
    )


def _wait(client: AgentClient) -> dict[str, Any]:
    """Wait until the agent has made its snapshot, and return what it says of it."""
    while True:
        time.sleep(POLL_S)
        snapshots = client.get("/status").get("snapshots")
        if not isinstance(snapshots, dict):
            raise UnreachableError("the agent does not say what became of the snapshot")
        if snapshots.get("running"):
            continue
        last, error = snapshots.get("last"), snapshots.get("last_error")
        if error is not None or not isinstance(last, dict):
            raise CommandError(clean_line(error or "no snapshot was made"), code="snapshot_failed")
        return last


def _list(directory: Path, *, as_json: bool) -> None:
    from kagent_sdk.cli.snapshots import open_shelf, told_plainly  # noqa: PLC0415 - pydantic, yaml

    with told_plainly():
        found = open_shelf(directory).newest_first()
    if as_json:
        print_json(
            {"snapshots": [{"name": one.name, "size_bytes": one.size_bytes} for one in found]}
        )
    elif found:
        from kagent_sdk.cli.screens.snapshots import snapshot_table  # noqa: PLC0415 - rich

        print_screen(snapshot_table(found, datetime.now(UTC)))
    else:
        say("no snapshots; make one with: kos-agent snapshot create")


def _inspect(snapshot: str, directory: Path, *, as_json: bool) -> None:
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415
    from kagent_sdk.cli.snapshots import open_shelf, told_plainly  # noqa: PLC0415 - pydantic, yaml
    from kagent_sdk.snapshots.verify import inspect as read  # noqa: PLC0415 - zstandard

    shelf = open_shelf(directory)
    with ProgressBar() as bar, told_plainly(), shelf.fetch(snapshot, _downloads(bar)) as path:
        size_bytes = path.stat().st_size
        manifest = read(path, shelf.max_bytes)
    name = snapshot.rpartition("/")[2]
    if as_json:
        document = {
            "name": name,
            "size_bytes": size_bytes,
            "manifest": manifest.model_dump(mode="json"),
        }
        print_json(document)
        return
    from kagent_sdk.cli.screens.snapshots import manifest_screen  # noqa: PLC0415 - rich

    print_screen(manifest_screen(name, size_bytes, manifest, datetime.now(UTC)))


def _verify(snapshot: str, directory: Path, *, as_json: bool) -> int:
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415
    from kagent_sdk.cli.snapshots import open_shelf, told_plainly  # noqa: PLC0415 - pydantic, yaml
    from kagent_sdk.snapshots.verify import verify as read  # noqa: PLC0415 - zstandard

    shelf = open_shelf(directory)
    with ProgressBar() as bar, told_plainly(), shelf.fetch(snapshot, _downloads(bar)) as path:
        verdict = read(path, shelf.max_bytes, _teller(bar, "verifying"))
    name = snapshot.rpartition("/")[2]
    if as_json:
        print_json({"name": name, "ok": not verdict.problems, "problems": list(verdict.problems)})
    else:
        from kagent_sdk.cli.screens.snapshots import verdict_screen  # noqa: PLC0415 - rich

        print_screen(verdict_screen(name, verdict))
    return EXIT_FAILED if verdict.problems else 0


def _restore(snapshot: str, directory: Path, *, is_forced: bool, as_json: bool) -> None:
    from kagent_sdk.cli.progress import ProgressBar  # noqa: PLC0415
    from kagent_sdk.cli.snapshots import open_shelf, told_plainly  # noqa: PLC0415 - pydantic, yaml
    from kagent_sdk.snapshots.restore import Target  # noqa: PLC0415 - zstandard
    from kagent_sdk.snapshots.restore import restore as carry_out  # noqa: PLC0415

    shelf = open_shelf(directory)
    target = Target(
        shelf.directory,
        shelf.config.name or "agent",
        shelf.config.version,
        shelf.max_bytes,
        is_forced=is_forced,
    )
    with ProgressBar() as bar, told_plainly(), shelf.fetch(snapshot, _downloads(bar)) as path:
        done = carry_out(path, target, time.time(), _teller(bar, "restoring"))
    manifest = done.manifest
    if as_json:
        print_json({"manifest": json.loads(manifest.model_dump_json()), "kept": list(done.kept)})
        return
    keys, tasks = _plural(manifest.state_keys, "key"), _plural(manifest.open_tasks, "open task")
    click.echo(f"restored {keys} and {tasks} into {clean_line(directory)}")
    for name in done.kept:
        say(f"what was there before is runtime/{clean_line(name)}")
    say(f"start it with: kos-agent run {clean_line(directory)}")


def _downloads(bar: ProgressBar) -> Callable[[int], None]:
    return lambda _count: bar.show({"message": "downloading"})


def _teller(bar: ProgressBar, message: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        bar.show({"fraction": done / total if total else None, "message": message})

    return tell


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

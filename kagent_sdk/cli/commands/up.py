"""kos-agent up: a mesh of agents and their orchestrator, on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.launch import MAX_PORT
from kagent_sdk.cli.options import FOLDER, json_option, with_errors
from kagent_sdk.cli.output import say
from kagent_sdk.cli.text import clean_line
from kagent_sdk.config.leftovers import MESH_FOLDER

if TYPE_CHECKING:
    from kagent_sdk.config.mesh import Mesh
    from kagent_sdk.orchestrator.fleet.containers import Containers
    from kagent_sdk.orchestrator.fleet.news import News
    from kagent_sdk.orchestrator.service import ServiceSettings

TOKEN_NAME = "agent-token"  # noqa: S105 - the name of a file


@click.command("up")
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=FOLDER)
@click.option("--mesh", "mesh_file", type=FOLDER, metavar="FILE", help="A mesh.yaml.")
@click.option("--host", metavar="ADDRESS", help="Address of the orchestrator (orchestrator.host).")
@click.option(
    "--port", type=click.IntRange(0, MAX_PORT), help="Its port; 0 takes a free one; else 8080."
)
@json_option
def command(
    directories: tuple[Path, ...],
    mesh_file: Path | None,
    host: str | None,
    port: int | None,
    *,
    as_json: bool,
) -> int | None:
    """Run agents and an orchestrator for them, until told to stop.

    The agents are those of mesh.yaml in the current folder, of the file that --mesh names, or those in
    the folders DIR. Tasks for any of them go to the orchestrator's /v1/tasks.

    All of it is on this machine, and kept in .kos-mesh beside mesh.yaml. Agents work in copies of their
    folders: what you edit reaches them by POST /v1/fleet/NAME/update alone.
    """

    def run() -> int:
        mesh = _find_mesh(directories, mesh_file)
        changes = {"host": host, "port": port}
        return _run(
            _with_orchestrator(mesh, {k: v for k, v in changes.items() if v is not None}),
            as_json=as_json,
        )

    return with_errors(run, as_json=as_json)


def _find_mesh(directories: tuple[Path, ...], mesh_file: Path | None) -> Mesh:
    from kagent_sdk.config.mesh import MESH_FILE, make_mesh, read_mesh  # noqa: PLC0415 - pydantic

    if directories and mesh_file is not None:
        raise UsageError("name folders of agents, or a mesh.yaml with --mesh, not both")
    if mesh_file is not None:
        return read_mesh(mesh_file)
    if not directories and Path(MESH_FILE).is_file():
        return read_mesh(Path(MESH_FILE))
    folders = directories or (Path(),)
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {clean_line(folder)}")
        if not any((folder / name).is_file() for name in ("entrypoint.py", "config.yaml")):
            where = "the current folder" if folder == Path() else clean_line(folder)
            raise UsageError(
                f"there is no agent in {where}, and no mesh.yaml here; name folders of agents: "
                "kos-agent up DIR..., or make one: kos-agent init my-agent"
            )
    return make_mesh(folders, os.environ, Path().absolute())


def _with_orchestrator(mesh: Mesh, changes: dict[str, str | int]) -> Mesh:
    orchestrator = mesh.config.orchestrator.model_copy(update=changes)
    return replace(mesh, config=mesh.config.model_copy(update={"orchestrator": orchestrator}))


def _run(mesh: Mesh, *, as_json: bool) -> int:
    from kagent_sdk.cli.fleet_output import FleetOutput  # noqa: PLC0415 - not for help
    from kagent_sdk.cli.orchestration import run_service  # noqa: PLC0415 - asyncio
    from kagent_sdk.host.http.lean_aiohttp import put_off_client  # noqa: PLC0415

    put_off_client()
    from kagent_sdk.orchestrator.fleet.fleet import Fleet, check_agents  # noqa: PLC0415
    from kagent_sdk.orchestrator.service import Service  # noqa: PLC0415 - aiohttp

    check_agents(mesh, os.environ)
    settings = _settings(mesh)
    if not as_json:
        agents = mesh.config.agents
        replicas = _count(sum(agent.replicas for agent in agents.values()), "replica")
        shown = clean_line(_shorten(settings.data))
        say(f"{replicas} of {_count(len(agents), 'agent')}; what they keep is in {shown}")

    def tell(news: News) -> None:
        output.tell(news)
        service.note(news)

    with FleetOutput(as_json=as_json) as output:
        fleet = Fleet(
            mesh,
            settings.data,
            token=settings.agent_token,
            environ=os.environ,
            tell=tell,
            containers=_containers(mesh),
        )
        output.watch(fleet.documents)
        service = Service(settings, [fleet])
        with fleet.hold():
            return run_service(service, on_hurry=fleet.hurry)


def _containers(mesh: Mesh) -> Containers | None:
    if all(agent.driver == "process" for agent in mesh.config.agents.values()):
        return None
    from kagent_sdk.cli.fleet_containers import EngineContainers  # noqa: PLC0415 - few meshes need it

    return EngineContainers()


def _settings(mesh: Mesh) -> ServiceSettings:
    from kagent_sdk.cli.orchestration import read_token  # noqa: PLC0415 - asyncio
    from kagent_sdk.config.models import LogsConfig  # noqa: PLC0415 - pydantic
    from kagent_sdk.orchestrator.fleet.ownership import keep_token, make_folder  # noqa: PLC0415
    from kagent_sdk.orchestrator.operator_token import keep_operator_token  # noqa: PLC0415
    from kagent_sdk.orchestrator.settings import BrokerLimits, ServiceSettings  # noqa: PLC0415

    orchestrator, data = mesh.config.orchestrator, mesh.directory / MESH_FOLDER
    make_folder(data, data)
    files = {
        key: None if name is None else mesh.directory / name
        for key, name in (
            ("token_file", orchestrator.token_file),
            ("operator_token_file", orchestrator.operator_token_file),
        )
    }
    token = read_token(files["token_file"], "orchestrator.token_file")
    operators = read_token(files["operator_token_file"], "orchestrator.operator_token_file")
    return ServiceSettings(
        data,
        orchestrator.host,
        orchestrator.port or _last_port(data, orchestrator.host),
        agent_token=token or keep_token(data / TOKEN_NAME),
        operator_token=keep_operator_token(data, operators),
        # Over NATS they come to that alone: a task here would wait for nobody.
        expects=frozenset(mesh.config.agents if orchestrator.link is None else ()),
        limits=BrokerLimits(
            lease_s=orchestrator.lease_s,
            heartbeat_s=orchestrator.heartbeat_s,
            return_s=orchestrator.return_s,
        ),
        stop_s=orchestrator.grace_s,
        logs=LogsConfig(tee="none"),  # stdout is for what happens in the fleet
    )


def _last_port(data: Path, host: str) -> int:
    """Return the port that was taken last time, if it is free: agents that still run look there."""
    import socket  # noqa: PLC0415 - not for help
    from urllib.parse import urlsplit  # noqa: PLC0415

    from kagent_sdk.orchestrator.fleet.layout import Layout  # noqa: PLC0415
    from kagent_sdk.orchestrator.fleet.record import read_record  # noqa: PLC0415

    try:
        port = urlsplit(read_record(Layout(data).record).url or "").port or 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, ValueError):
        return 0
    return port


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shorten(path: Path) -> Path:
    here = Path().absolute()
    return path.relative_to(here) if path.is_relative_to(here) else path

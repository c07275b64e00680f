"""kos-agent orchestrator: one without a fleet, for agents that others start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from kagent_sdk.cli.launch import MAX_PORT
from kagent_sdk.cli.options import FOLDER
from kagent_sdk.cli.output import say
from kagent_sdk.cli.text import clean_line


@click.command("orchestrator")
@click.option(
    "--data",
    type=FOLDER,
    default=".kos-mesh",
    metavar="DIR",
    help="What it keeps: tasks, its log; .kos-mesh if not given.",
)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, MAX_PORT), default=8080, help="Port; 0 takes a free one."
)
@click.option("--token-file", type=FOLDER, metavar="FILE", help="The token that agents show.")
@click.option(
    "--operator-token-file",
    type=FOLDER,
    metavar="FILE",
    help="The token that operators show; without it one is made, in DIR/operator-token.",
)
@click.option(
    "--lease-s",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="S",
    help="An agent that is silent for so long counts as lost; 15 if not given.",
)
@click.option(
    "--heartbeat-s",
    type=click.FloatRange(0, 300, min_open=True),
    metavar="S",
    help="How often agents say that they live; 5 if not given.",
)
def command(  # noqa: PLR0913 - click hands over one argument per option
    *,
    data: Path,
    host: str,
    port: int,
    token_file: Path | None,
    operator_token_file: Path | None,
    lease_s: float | None,
    heartbeat_s: float | None,
) -> int:
    """Run an orchestrator for agents that others start.

    They find it by orchestrator.url in their config.yaml. It takes tasks at /v1/tasks, hands them to
    agents that are ready, and keeps what came of them. It is for one machine; beyond it use NATS.

    On an address that other machines reach it needs the token of agents, too.
    """
    from kagent_sdk.cli.orchestration import read_token, run_service  # noqa: PLC0415 - not for help
    from kagent_sdk.host.http.lean_aiohttp import put_off_client  # noqa: PLC0415

    put_off_client()
    from kagent_sdk.orchestrator.operator_token import keep_operator_token  # noqa: PLC0415
    from kagent_sdk.orchestrator.service import Service  # noqa: PLC0415
    from kagent_sdk.orchestrator.settings import BrokerLimits, ServiceSettings  # noqa: PLC0415

    limits = BrokerLimits()
    operators = read_token(operator_token_file, "--operator-token-file")
    settings = ServiceSettings(
        data.absolute(),
        host,
        port,
        agent_token=read_token(token_file, "--token-file"),
        operator_token=keep_operator_token(data.absolute(), operators),
        limits=replace(
            limits,
            lease_s=limits.lease_s if lease_s is None else lease_s,
            heartbeat_s=limits.heartbeat_s if heartbeat_s is None else heartbeat_s,
        ),
    )
    say(f"the orchestrator keeps its data in {clean_line(data)}; Ctrl-C stops it")
    return run_service(Service(settings), on_hurry=lambda: None)

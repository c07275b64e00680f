"""An orchestrator that soon gives up on agents: `kos-agent orchestrator` with other times.

python mesh_orchestrator.py LEASE_S HEARTBEAT_S RETURN_S HOST [AGENT_TOKEN_FILE OPERATOR_TOKEN_FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from kagent_sdk.cli.orchestration import run_service
from kagent_sdk.orchestrator.service import Service
from kagent_sdk.orchestrator.settings import BrokerLimits, ServiceSettings


def main(lease_s: str, heartbeat_s: str, return_s: str, host: str, *token_files: str) -> int:
    """Run it in the current folder, on a free port."""
    agents, operators = [Path(name).read_text() for name in token_files] or (None, None)
    settings = ServiceSettings(
        Path(".kos-mesh").absolute(),
        host,
        0,
        agent_token=agents,
        operator_token=operators,
        limits=BrokerLimits(
            lease_s=float(lease_s), heartbeat_s=float(heartbeat_s), return_s=float(return_s)
        ),
    )
    return run_service(Service(settings), on_hurry=lambda: None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""An orchestrator as a program, to be killed: ``python -m … DATA PORT``."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path

from kagent_sdk.orchestrator.service import Service
from tests.integration.orchestrators import quick_settings


async def main() -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = replace(quick_settings(Path(sys.argv[1])), port=int(sys.argv[2]))
    await Service(settings).run(stop)


if __name__ == "__main__":
    asyncio.run(main())

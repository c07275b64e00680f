"""Where the command kos-agent begins: a plain ``run`` goes straight to the host, the rest to click."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of the process and exit it."""
    words = sys.argv[1:]
    # With the variable set errors come with tracebacks, through `kagent_sdk.cli.boundary`.
    if words[:1] == ["run"] and not os.environ.get("AGENT_TRACEBACK"):
        # The host's imports begin here; see `kagent_sdk.host.main.run`, which ends this.
        gc.disable()
        try:
            _run(words[1:])
        finally:
            gc.enable()
    from kagent_sdk.cli.main import main as run_command  # noqa: PLC0415 - imports click

    run_command(words)


def _run(words: list[str]) -> None:
    """Run the host and exit; return when the words are for click to read."""
    from kagent_sdk.cli.launch import read_launch, start  # noqa: PLC0415 - what only ``run`` needs
    from kagent_sdk.cli.streams import prepare_streams  # noqa: PLC0415

    launch = read_launch(words)
    if launch is None:
        return
    prepare_streams()
    try:
        code = start(launch)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - the boundary reports all of them
        _report(exc)
    sys.exit(code)


def _report(error: BaseException) -> NoReturn:
    from kagent_sdk.cli.boundary import guard  # noqa: PLC0415 - imports click

    def fail() -> NoReturn:
        raise error

    guard(fail)

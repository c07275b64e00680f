"""What the host reads of the agent's folder: at its start, and again at each reload."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.config import read_config
from kagent_sdk.errors import StartupError

if TYPE_CHECKING:
    from kagent_sdk.config import LoadedConfig
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.host.reconfiguration import Reconfiguration

START_SCRIPT = Path("/app/start.sh")
"""What an image may have in place of an entrypoint and a ``worker.command``."""


@dataclass(frozen=True, slots=True)
class AgentFolder:
    """An agent's folder, and what the command line says on top of its configuration.

    Attributes:
        path: absolute.
        overrides: configuration keys set on the command line, such as ``{"http.port": 0}``.
    """

    path: Path
    overrides: Mapping[str, Any]

    def read_config(self) -> LoadedConfig:
        """Read ``config.yaml`` and the environment.

        Where neither has a program to run and the folder has no entrypoint, an executable
        `START_SCRIPT` is the program.

        Raises:
            ConfigError: they are wrong.
        """
        loaded = read_config(self.path, environ=os.environ, overrides=self.overrides)
        if (self.path / loaded.config.entrypoint).is_file() or not os.access(START_SCRIPT, os.X_OK):
            return loaded
        return replace(loaded, config=with_start_script(loaded.config, START_SCRIPT))

    def check_entrypoint(self, config: AgentConfig) -> None:
        """See that there is something to run.

        Raises:
            StartupError: the entrypoint or the program is not there.
            VaultError: a program's secret cannot be a file.
        """
        if config.worker.command is not None:
            from kagent_sdk.host.command_worker import check_command  # noqa: PLC0415 - few need it

            check_command(self.path, config)
        elif not (self.path / config.entrypoint).is_file():
            raise StartupError(
                f"{config.entrypoint} is not in {self.path}; write one (kos-agent init NAME makes a "
                f"working agent), name it with entrypoint: in config.yaml, or {_other_way()}"
            )

    def prepare_reload(self, present: AgentConfig) -> Reconfiguration:
        """Read the configuration anew; it blocks, so call it in a thread.

        Raises:
            ConfigError: it is wrong.
            ReloadError: there is nothing to run any more.
        """
        from kagent_sdk.errors import ReloadError  # noqa: PLC0415 - a start needs none of these
        from kagent_sdk.host.link_checks import check_link  # noqa: PLC0415
        from kagent_sdk.host.reconfiguration import reconfigure  # noqa: PLC0415

        plan = reconfigure(present, self.read_config().config)
        check_link(plan.config, self.path)
        try:
            self.check_entrypoint(plan.config)
        except StartupError as exc:
            # Told over HTTP, where no path of this machine may stand.
            command = plan.config.worker.command
            what = plan.config.entrypoint if command is None else "the program of worker.command"
            raise ReloadError(f"{what} is not in the agent's folder") from exc
        return plan


def with_start_script(config: AgentConfig, script: Path) -> AgentConfig:
    """Return a configuration that runs a script as its ``worker.command``; pure.

    A script that tells nothing of itself is ready as soon as it runs, unless ``worker.notify`` is
    set. It may run what lies in its folder. A configuration that says what to run is left alone.
    """
    worker = config.worker
    if worker.command is not None or "entrypoint" in config.model_fields_set:
        return config
    notify = worker.notify and "notify" in worker.model_fields_set
    execute = (*config.sandbox.execute, str(script.parent))
    return config.model_copy(
        update={
            "worker": worker.model_copy(update={"command": (str(script),), "notify": notify}),
            "sandbox": config.sandbox.model_copy(update={"execute": execute}),
        }
    )


def _other_way() -> str:
    if START_SCRIPT.exists():
        return f"make {START_SCRIPT} executable and leave entrypoint: out"
    return f"put an executable script at {START_SCRIPT}"

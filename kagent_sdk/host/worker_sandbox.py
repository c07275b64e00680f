"""What a host holds for the confinement of its workers, from its start to its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.errors import SandboxError
from kagent_sdk.host.confinement import Confinement, find_confinement, limits_of
from kagent_sdk.host.egress import Egress
from kagent_sdk.host.users import become_agent, becomes_agent
from kagent_sdk.host.worker_start import WorkerStart

if TYPE_CHECKING:
    from kagent_sdk.config import LoadedConfig
    from kagent_sdk.config.models import AgentConfig
    from kagent_sdk.sandbox.cgroups import WorkerCgroup


class WorkerSandbox:
    """Makes a `WorkerStart` for each generation.

    Args:
        directory: the agent's folder.
        config: of the first generation.
        confinement: of the workers.
        cgroup: of all of them; None where there can be none.

    Attributes:
        egress: the only way out of them.
        first: how the generation is started that the host begins with.

    Raises:
        SandboxError: bubblewrap is asked for and not installed.
    """

    def __init__(
        self,
        directory: Path,
        config: AgentConfig,
        confinement: Confinement,
        *,
        cgroup: WorkerCgroup | None = None,
    ) -> None:
        self._directory = directory
        self._confinement = confinement
        self._cgroup = cgroup
        self.egress = Egress(directory)
        self.first = self.start_by(config)

    def start_by(self, config: AgentConfig) -> WorkerStart:
        """Return how workers of this configuration are started.

        Raises:
            SandboxError: bubblewrap is asked for and not installed.
            StartupError: the egress proxy has no place to listen.
        """
        bwrap, effective = None, config
        if config.sandbox.mode != "off" and config.worker.isolation == "bwrap":
            from kagent_sdk.sandbox.bubblewrap import PROGRAM  # noqa: PLC0415 - few need it

            bwrap = shutil.which(PROGRAM)
            if bwrap is None and config.sandbox.mode == "enforce":
                raise SandboxError(
                    "namespaces",
                    f"worker.isolation is bwrap, and there is no program {PROGRAM}",
                    "install the package bubblewrap, or set worker.isolation: process",
                )
            if bwrap is None:  # the audit tells that the namespaces are missing
                worker = config.worker.model_copy(update={"isolation": "process"})
                effective = config.model_copy(update={"worker": worker})
        grant = self.egress.admit(effective)
        policy = self._confinement.policy(config, connect=() if grant is None else (grant.port,))
        return WorkerStart(
            self._directory,
            config,
            policy,
            bwrap=bwrap,
            cgroup=self._cgroup,
            grant=grant,
        )


@contextmanager
def worker_sandbox(
    directory: Path, loaded: LoadedConfig, environ: Mapping[str, str]
) -> Iterator[WorkerSandbox]:
    """Hold what the workers' confinement needs for the time of the block.

    A host that was started by root becomes another user here, for good.

    Args:
        directory: the agent's folder, which has ``runtime/`` and ``logs/``.
        loaded: its configuration.
        environ: the host's environment.

    Raises:
        ConfigError: a path of ``sandbox:`` cannot be meant.
        StartupError: the other user cannot read what it needs.
        SandboxError: bubblewrap is asked for and not installed.
    """
    config = loaded.config
    cgroup = _make_cgroup(config) if os.geteuid() == 0 else None
    try:
        if becomes_agent(config):
            become_agent(directory, config)
        confinement = find_confinement(directory, config, environ)
        sandbox = config.sandbox
        if sandbox.read or sandbox.write or sandbox.execute:
            from kagent_sdk.host.policy_checks import check_policy  # noqa: PLC0415 - few need it

            check_policy(loaded, confinement)
        made = WorkerSandbox(directory, config, confinement, cgroup=cgroup)
        try:
            yield made
        finally:
            made.egress.close()
    finally:
        if cgroup is not None:
            cgroup.close()


def _make_cgroup(config: AgentConfig) -> WorkerCgroup | None:
    """Make the cgroup of all workers while there are the rights to; None where there are none."""
    if config.sandbox.mode == "off":
        return None
    from kagent_sdk.sandbox.cgroups import CgroupError, make_cgroup  # noqa: PLC0415 - only root
    from kagent_sdk.sandbox.policy import AGENT_ID  # noqa: PLC0415

    try:
        return make_cgroup(limits_of(config.sandbox), AGENT_ID if becomes_agent(config) else None)
    except CgroupError:
        return None  # the audit looks for it, and tells

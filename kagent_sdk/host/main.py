"""``kos-agent run``: the host process from its first line to its exit code."""

from __future__ import annotations

import faulthandler
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.host.signals import EarlySignals

if TYPE_CHECKING:
    from kagent_sdk.host.folder import AgentFolder
    from kagent_sdk.host.vault import Vault
    from kagent_sdk.host.worker_process import WorkerProcess
    from kagent_sdk.host.worker_sandbox import WorkerSandbox

FOLDERS = ("runtime", "runtime/cache", "runtime/data", "logs")

EXIT_OK = 0
EXIT_INTERNAL = 70  # EX_SOFTWARE, sysexits.h


def run(directory: Path, overrides: dict[str, Any]) -> int:
    """Run the agent in ``directory`` until it is told to stop, and return the exit code.

    Args:
        directory: the agent's folder.
        overrides: configuration keys set on the command line, such as ``{"http": {"port": 0}}``.

    Raises:
        ConfigError: the configuration or the vault is wrong (exit code 78).
        StartupError: the agent cannot start (3).
        CrashLoopError: the worker keeps crashing (75).
    """
    # A start makes objects that stay: a fifth of its time would go into collections that find
    # nothing. The host turns them on again once it listens.
    gc.disable()
    try:
        return _run(directory, overrides)
    except BaseException as exc:
        from kagent_sdk.host.early_exit import record_failure  # noqa: PLC0415 - rare

        record_failure(directory, exc)
        raise
    finally:
        gc.enable()


def _run(directory: Path, overrides: dict[str, Any]) -> int:
    signals = EarlySignals()
    signals.install()
    # A crash in C code leaves a stack on stderr; all that the next host can tell is that this one
    # was killed.
    faulthandler.enable()
    # Imported here, so that a signal in the meantime is not lost.
    from kagent_sdk.host.folder import AgentFolder  # noqa: PLC0415
    from kagent_sdk.host.vault import read_vault  # noqa: PLC0415
    from kagent_sdk.host.worker_sandbox import worker_sandbox  # noqa: PLC0415

    folder = AgentFolder(directory.resolve(), overrides)
    loaded = folder.read_config()
    config = loaded.config
    folder.check_entrypoint(config)
    if config.orchestrator.url is not None:
        from kagent_sdk.host.link_checks import check_link  # noqa: PLC0415 - few agents have a link

        check_link(config, folder.path)
    _make_folders(folder.path)
    with worker_sandbox(folder.path, loaded, os.environ) as sandbox:
        # As the user that the host is from now on.
        _check_folders(folder.path)
        vault = read_vault(folder.path, config.secrets)
        injected = [one.secret for one in config.sandbox.network.inject]
        vault.require(injected, "sandbox.network.inject")
        if config.sandbox.require:
            from kagent_sdk.host.inspection import require_controls  # noqa: PLC0415 - few need it

            require_controls(sandbox.first, folder.path / config.secrets.file)
        _serve(folder, vault, signals, sandbox)
    return EXIT_OK


def _make_folders(directory: Path) -> None:
    from kagent_sdk.errors import StartupError  # noqa: PLC0415

    for name in FOLDERS:
        folder = directory / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as exc:
            raise StartupError(f"cannot make the folder {folder}: {exc.strerror}") from exc


def _check_folders(directory: Path) -> None:
    from kagent_sdk.errors import StartupError  # noqa: PLC0415

    for name in FOLDERS:
        if not os.access(directory / name, os.W_OK | os.X_OK):
            raise StartupError(f"cannot write to the folder {directory / name}; run as its owner")


def _serve(
    folder: AgentFolder, vault: Vault, signals: EarlySignals, sandbox: WorkerSandbox
) -> None:
    from kagent_sdk.host.orphans import end_orphans, find_children  # noqa: PLC0415
    from kagent_sdk.host.worker_process import has_spare_core, spawn_worker  # noqa: PLC0415

    before = find_children()
    # Where there is a core for them the workers start first, and the host imports the rest
    # meanwhile. On a single core they would only delay the probes: there the host comes first.
    # A program of worker.command waits for the host, which holds its socket and its secrets.
    worker = sandbox.first.config.worker
    is_early = worker.command is None and has_spare_core()
    count = worker.count if is_early else 0
    workers: list[WorkerProcess] = [spawn_worker(sandbox.first, os.environ) for _ in range(count)]
    try:
        _run_host(folder, vault, signals, sandbox, workers)
    finally:
        for process in workers:
            process.kill()
        end_orphans(before)


def _run_host(
    folder: AgentFolder,
    vault: Vault,
    signals: EarlySignals,
    sandbox: WorkerSandbox,
    workers: list[WorkerProcess],
) -> None:
    import asyncio  # noqa: PLC0415

    from kagent_sdk.host.host import Host  # noqa: PLC0415
    from kagent_sdk.host.parts import build_parts  # noqa: PLC0415

    async def serve() -> None:
        await Host(build_parts(folder, vault, sandbox)).serve(signals, workers)

    asyncio.run(serve())

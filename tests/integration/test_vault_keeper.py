"""Watching the vault when the system does not cooperate: the keeper goes on, and says what is wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kagent_sdk.config.models import SecretsConfig
from kagent_sdk.config.orchestrator import OrchestratorConfig
from kagent_sdk.host import vault_keeper, vault_watch
from kagent_sdk.host.link_checks import load_link_token, token_files
from kagent_sdk.host.vault import Vault, read_vault
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.redaction.redactor import Redactor
from tests.integration.vaults import put_vault

CONFIG = SecretsConfig(expose=("key",))


class Pump:
    """Keeps what is logged.

    Attributes:
        redactor: as the keeper has set it.
        records: levels, events and values.
    """

    def __init__(self) -> None:
        self.redactor = Redactor({})
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def log(self, level: str, event: str, **values: Any) -> None:
        """Keep a record."""
        self.records.append((level, event, values))

    def log_exception(self, event: str, error: BaseException, **values: Any) -> None:
        """Keep a record of an exception."""
        self.log("error", event, error=repr(error), **values)

    def events(self) -> list[str]:
        """Return the events in order."""
        return [event for _, event, _ in self.records]


def make_keeper(
    folder: Path, pump: Pump, load_token: Callable[[Vault], str | None] = lambda vault: vault.token
) -> VaultKeeper:
    """Return a keeper of a folder's vault."""
    as_pump: Any = pump  # all of `LogPump` that a keeper uses
    return VaultKeeper(
        folder,
        CONFIG,
        read_vault(folder, CONFIG),
        load_tokens=lambda vault: (load_token(vault), None),
        token_files=(),
        pump=as_pump,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a thread's doing has no event here
            await asyncio.sleep(0.01)


@pytest.fixture
def pump(monkeypatch: pytest.MonkeyPatch) -> Pump:
    """Return a pump; the keeper loses no time meanwhile."""
    monkeypatch.setattr(vault_keeper, "START_AFTER_S", 0.0)
    monkeypatch.setattr(vault_keeper, "RETRY_S", 0.01)
    monkeypatch.setattr(vault_watch, "LOOK_EVERY_S", 0.05)
    return Pump()


async def test_the_redactor_knows_a_new_value_before_anyone_has_it(
    tmp_path: Path, pump: Pump
) -> None:
    """A worker may print a value in the moment that it gets it."""
    put_vault(tmp_path, {"key": "value-one"})
    keeper = make_keeper(tmp_path, pump)
    seen: list[bytes] = []
    keeper.listeners.append(lambda: seen.append(pump.redactor.redact(b"value-one value-two")))

    put_vault(tmp_path, {"key": "value-two"})
    await asyncio.to_thread(keeper.look)
    assert pump.redactor.finds_in(b"value-two")
    await until(lambda: bool(seen))

    assert seen == [b"***key*** ***key***"]
    assert keeper.vault.known(CONFIG.expose) == {"key": "value-two"}


async def test_without_the_kernels_help_changes_are_seen_all_the_same(
    tmp_path: Path, pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inotify watches run out on machines with many containers."""

    def fail(*_: object, **__: object) -> NoReturn:
        tried.set()
        raise OSError(28, "inotify watch limit reached")

    tried = threading.Event()
    monkeypatch.setattr("watchfiles.watch", fail)
    put_vault(tmp_path, {"key": "value-one"})
    keeper = make_keeper(tmp_path, pump)
    job = asyncio.create_task(keeper.run())
    await until(tried.is_set)
    put_vault(tmp_path, {"key": "value-two"})
    await until(lambda: keeper.generation == 2)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    assert keeper.vault.known(CONFIG.expose) == {"key": "value-two"}


async def test_a_thread_that_cannot_start_is_tried_again(
    tmp_path: Path, pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of processes the agent still serves; the vault is watched later."""
    real = threading.Thread.start
    failures = iter(["no", "no"])

    def start(thread: threading.Thread) -> None:
        if thread.name == "kagent-vault-watch" and next(failures, None):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    put_vault(tmp_path, {"key": "value-one"})
    keeper = make_keeper(tmp_path, pump)
    job = asyncio.create_task(keeper.run())
    put_vault(tmp_path, {"key": "value-two"})
    await until(lambda: keeper.generation == 2)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    assert pump.events() == ["vault_not_watched", "vault_not_watched", "vault_reloaded"]


async def test_a_bug_in_a_look_is_logged_and_the_next_look_is_taken(
    tmp_path: Path, pump: Pump
) -> None:
    """A thread that died unseen would be an agent that never learns of a new key."""
    calls = iter([None, ZeroDivisionError(), OSError(5, "Input/output error"), None])

    def load_token(_: Vault) -> None:
        error = next(calls)
        if error is not None:
            raise error

    put_vault(tmp_path, {"key": "value-0"})
    keeper = make_keeper(tmp_path, pump, load_token)
    for number in (1, 2, 3):
        put_vault(tmp_path, {"key": f"value-{number}"})
        await asyncio.to_thread(keeper.look)
    await until(lambda: keeper.generation == 2)

    assert pump.events() == ["vault_watch_failed", "vault_not_reloaded", "vault_reloaded"]
    assert "cannot be read: Input/output error" in pump.records[1][2]["reason"]
    assert keeper.vault.known(CONFIG.expose) == {"key": "value-3"}


async def test_a_secret_of_the_hosts_own_is_kept_out_of_the_log(tmp_path: Path, pump: Pump) -> None:
    """Through a rotation too: it is not in the vault."""
    put_vault(tmp_path, {"key": "sk-first-one"})
    keeper = make_keeper(tmp_path, pump)
    keeper.guard("egress_token", "0123456789abcdef")
    keeper.guard("egress_token", "0123456789abcdef")
    first = pump.redactor.redact(b"0123456789abcdef sk-first-one")
    put_vault(tmp_path, {"key": "sk-second-one"})
    await asyncio.to_thread(keeper.look)
    second = pump.redactor.redact(b"0123456789abcdef sk-second-one")

    assert first == second == b"***egress_token*** ***key***"


async def test_the_token_for_the_orchestrator_is_followed_and_never_taken_away(
    tmp_path: Path, pump: Pump
) -> None:
    """It is in a file of its own, which an operator rotates, and once deletes by mistake."""
    file = tmp_path / "token"
    config = OrchestratorConfig(url="http://o.example")
    environ = {"AGENT_ORCHESTRATOR_TOKEN_FILE": str(file)}

    def rotate(token: str) -> None:
        file.write_text(token)
        file.chmod(0o600)

    put_vault(tmp_path, {"key": "value-one"})
    rotate("orchestrator-token-1")
    as_pump: Any = pump
    keeper = VaultKeeper(
        tmp_path,
        CONFIG,
        read_vault(tmp_path, CONFIG),
        load_tokens=lambda vault: (None, load_link_token(vault, config, environ)),
        token_files=token_files(config, environ),
        pump=as_pump,
    )
    first = keeper.link_token
    rotate("orchestrator-token-2")
    await asyncio.to_thread(keeper.look)
    await until(lambda: keeper.generation == 2)
    file.unlink()
    await asyncio.to_thread(keeper.look)
    await until(lambda: keeper.error is not None)

    assert (first, keeper.link_token) == ("orchestrator-token-1", "orchestrator-token-2")
    for token in (b"orchestrator-token-1", b"orchestrator-token-2"):
        assert token not in pump.redactor.redact(token)
    assert "orchestrator-token" not in str(pump.records)

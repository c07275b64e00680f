"""Keeps the vault up to date while the agent runs.

A file that is replaced is read and checked as at the start, in a thread. When it is good, it takes the
place of the old one as a whole: first in the redactor, so that no new value can be written before
it is known, then everywhere else. When it is not, the old values stay, and why is told.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kagent_sdk.config.models import SecretsConfig
from kagent_sdk.errors import ConfigError, VaultError
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.vault import TOKEN_KEY, Vault, read_vault
from kagent_sdk.host.vault_watch import FolderWatch
from kagent_sdk.redaction.redactor import Redactor
from kagent_sdk.redaction.retired_secrets import RetiredSecrets

START_AFTER_S = 1.0
"""Behind the start, of which importing watchfiles would take a part."""

SETTLE_S = 0.02
MAX_SETTLING = 50
"""A file that is written in place is read once it has stood still this long, or after a second.
It is longer than a tick of the clock that stamps files, so no change after that goes unseen."""

JOIN_S = 2.0
RETRY_S = 10.0

LINK_TOKEN = "orchestrator_token"  # noqa: S105 - how the log calls it

TokenLoader = Callable[[Vault], tuple[str | None, str | None]]
"""Returns the agent's own token, and the one for its orchestrator."""


class _Known(NamedTuple):
    vault: Vault
    token: str | None
    link_token: str | None


class VaultKeeper:
    """Holds what the vault says at present.

    Args:
        directory: the agent's folder.
        config: what of the vault is wanted.
        vault: what was read at the start.
        load_tokens: finds the host's own tokens, in files or the vault; raises `ConfigError`.
        token_files: other files to watch for changes, if tokens are in them.
        pump: told of changes; its redactor is kept up to date.

    Attributes:
        vault: the present one.
        token: the agent's own.
        link_token: the one that it shows to its orchestrator.
        redactor: takes out present and retired values.
        generation: how often the content changed, from 1 on.
        loaded_at: when, in seconds since the epoch.
        error: why the file that is there now was not taken.
        listeners: called in the loop when vault or token have changed.
    """

    def __init__(
        self,
        directory: Path,
        config: SecretsConfig,
        vault: Vault,
        *,
        load_tokens: TokenLoader,
        token_files: Sequence[str],
        pump: LogPump,
    ) -> None:
        self._directory = directory
        self._config = config
        self._load_tokens = load_tokens
        self._pump = pump
        self._loop = asyncio.get_running_loop()
        self._paths = [directory / config.file, *map(Path, token_files)]
        self._retired = RetiredSecrets()
        self._own: dict[str, str] = {}
        self._watch = FolderWatch(self._paths[0].parent, self.look)
        self.vault = vault
        self._newest = _Known(vault, *load_tokens(vault))
        self.token = self._newest.token
        self.link_token = self._newest.link_token
        self.redactor = Redactor(_texts(self._newest))
        self.generation = 1
        self.loaded_at = time.time()
        self.error: str | None = None
        self.listeners: list[Callable[[], None]] = []
        self._looking = threading.Lock()
        self._seen = self._stamp()
        pump.redactor = self.redactor

    def guard(self, name: str, value: str) -> None:
        """Keep a secret of the host's own, which is not in the vault, out of the log as well.

        Once `run` is under way call it in a thread: it waits for a look at the vault.
        """
        with self._looking:
            if self._own.get(name) == value:
                return
            self._own[name] = value
            self._redact(self._newest)

    def _redact(self, known: _Known) -> None:
        texts = {**self._own, **_texts(known)}
        redactor = Redactor(texts, self._retired.pairs(), like=self.redactor)
        self._pump.redactor = self.redactor = redactor

    async def run(self) -> None:
        """Watch the files until cancelled."""
        await asyncio.sleep(START_AFTER_S)
        try:
            await self._start_watch()
            await asyncio.Event().wait()
        finally:
            self._watch.stop()
            await asyncio.to_thread(self._watch.join, JOIN_S)

    async def _start_watch(self) -> None:
        while True:
            try:
                self._watch.start()
            except RuntimeError as exc:
                # No thread to be had: no reason to end an agent that serves.
                self._pump.log("error", "vault_not_watched", error=str(exc))
                await asyncio.sleep(RETRY_S)
            else:
                return

    def stop(self) -> None:
        """Take no further change; the shutdown need not wait for the thread then."""
        self._watch.stop()

    def look(self) -> None:
        """Take what has changed since the last look; in a thread, one at a time."""
        try:
            self._look()
        except Exception as exc:  # noqa: BLE001 - the thread must live to see the next change
            self._pump.log_exception("vault_watch_failed", exc)

    def read_anew(self, config: SecretsConfig) -> None:
        """Take what the files hold now if it fits a configuration that is about to be in force.

        Blocks: call it in a thread. What was taken is known in the loop before this thread's result is.

        Raises:
            ConfigError: it does not fit, or is unsafe; the present values stay.
        """
        with self._looking:
            self._seen = self._stamp()
            self._take_up(self._read(config))

    def configure(self, config: SecretsConfig) -> None:
        """Judge what comes from now on by this configuration; ``secrets.file`` stays."""
        self._config = config

    def _look(self) -> None:
        with self._looking:
            self._look_alone()

    def _look_alone(self) -> None:
        seen = self._stamp()
        if seen == self._seen:
            return
        for _ in range(MAX_SETTLING):
            time.sleep(SETTLE_S)
            before, seen = seen, self._stamp()
            if before == seen:
                break
        self._seen = seen
        try:
            known = self._read(self._config)
        except ConfigError as exc:
            self._tell(self._refuse, str(exc))
            return
        except OSError as exc:
            self._tell(self._refuse, f"{self._config.file} cannot be read: {exc.strerror}")
            return
        self._take_up(known)

    def _take_up(self, known: _Known) -> None:
        if known == self._newest:
            self._tell(self._keep)
            return
        self._retired.add(_texts(self._newest))
        self._newest = known
        # Before anything else: from here on nothing is written that holds a new value.
        self._redact(known)
        self._tell(self._take, known)

    def _read(self, config: SecretsConfig) -> _Known:
        before = self._newest
        vault = read_vault(self._directory, config)
        if before.vault.is_present and not vault.is_present:
            raise VaultError(f"{self._config.file} is gone")
        known = _Known(vault, *self._load_tokens(vault))
        if known.token is None and before.token is not None:
            raise VaultError(f"{TOKEN_KEY} is gone from {self._config.file}")
        if known.link_token is None and before.link_token is not None:
            raise VaultError(f"the orchestrator's token is gone from {self._config.file}")
        return known

    def _stamp(self) -> list[object]:
        """Return what is different when one of the files has changed."""
        return [_stamp(path) for path in self._paths]

    def _tell(self, step: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(step, *values)
        except RuntimeError:
            return  # the loop is closed: the host is going down

    # In the loop

    def _take(self, known: _Known) -> None:
        self.vault, self.token, self.link_token = known
        self.generation += 1
        self.loaded_at = time.time()
        self.error = None
        self._pump.log("info", "vault_reloaded", generation=self.generation)
        for listener in self.listeners:
            listener()

    def _refuse(self, reason: str) -> None:
        self.error = reason
        self._pump.log("error", "vault_not_reloaded", reason=reason, generation=self.generation)

    def _keep(self) -> None:
        """Note that the file has what was known already."""
        if self.error is not None:
            self.error = None
            self._pump.log("info", "vault_recovered", generation=self.generation)


def _texts(known: _Known) -> dict[str, str]:
    """Return every secret by its name; a token from a file of its own counts too."""
    texts = known.vault.texts()
    values = set(texts.values())
    for name, token in ((TOKEN_KEY, known.token), (LINK_TOKEN, known.link_token)):
        if token is not None and token not in values:
            texts[f"{name}_file"] = token
    return texts


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as exc:
        return exc.errno
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )

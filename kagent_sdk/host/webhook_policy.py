"""Judges where callbacks may go, by what configuration and vault say at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kagent_sdk.errors import VaultError, WebhookSecretError
from kagent_sdk.protocol.callback_url import CallbackUrl, is_allowed, parse_allowed
from kagent_sdk.protocol.callback_url import parse_callback_url as parse_url
from kagent_sdk.protocol.problems import callback_refused
from kagent_sdk.protocol.webhook import parse_secrets

if TYPE_CHECKING:
    from kagent_sdk.config.models import CallbacksConfig
    from kagent_sdk.host.vault import Vault
    from kagent_sdk.protocol.problem import Problem

NOT_ALLOWED = "is not below any URL of callbacks.allow in config.yaml"


class HasVault(Protocol):
    """What keeps the vault up to date."""

    @property
    def vault(self) -> Vault:
        """The present one."""
        ...


class WebhookPolicy:
    """Where callbacks may go, and what signs them.

    Args:
        config: the section ``callbacks``.
        keeper: has the vault.
    """

    def __init__(self, config: CallbacksConfig, keeper: HasVault) -> None:
        self._keeper = keeper
        self.configure(config)

    def configure(self, config: CallbacksConfig) -> None:
        """Judge by this configuration from now on."""
        self.config = config
        self._allowed = tuple(parse_allowed(entry) for entry in config.allow)

    def refuse(self, url: str) -> Problem | None:
        """Return why a task with this callback is not taken; None when it may be."""
        if not self.allows(parse_url(url)):
            return callback_refused(NOT_ALLOWED)
        try:
            self.keys()
        except VaultError as exc:
            return callback_refused(f"cannot be signed: {exc}")
        return None

    def allows(self, url: CallbackUrl) -> bool:
        """Whether a callback may go there."""
        return is_allowed(url, self._allowed)

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys that sign, as the vault has them now.

        Raises:
            VaultError: it has none, or a malformed one; the message holds no part of it.
        """
        name = self.config.secret
        found = self._keeper.vault.known([name])
        if name not in found:
            raise VaultError(f"the vault has no key {name} (callbacks.secret in config.yaml)")
        try:
            return parse_secrets(found[name])
        except WebhookSecretError as exc:
            raise VaultError(f"the vault's key {name} is unfit: {exc}") from None

"""kagent_sdk: the agent-side runtime of kOS.

The public names, imported on first use so that ``import kagent_sdk`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent_sdk.agent import Agent
    from kagent_sdk.context import LoopContext, TaskContext
    from kagent_sdk.context.state import State
    from kagent_sdk.errors import (
        CallError,
        ConfigError,
        DeclarationError,
        KagentError,
        SecretMismatchError,
        SecretMissingError,
        StartupError,
        StateConflictError,
        StateError,
        StateKeyError,
        StateQuotaError,
        StateValueError,
        TaskError,
        TaskInterrupted,
        VaultError,
        WebhookSecretError,
        WebhookSignatureError,
    )
    from kagent_sdk.protocol.webhook import sign_webhook, verify_webhook

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "LoopContext": "context",
    "State": "context.state",
    "TaskContext": "context",
    "CallError": "errors",
    "ConfigError": "errors",
    "DeclarationError": "errors",
    "KagentError": "errors",
    "SecretMismatchError": "errors",
    "SecretMissingError": "errors",
    "StartupError": "errors",
    "StateConflictError": "errors",
    "StateError": "errors",
    "StateKeyError": "errors",
    "StateQuotaError": "errors",
    "StateValueError": "errors",
    "TaskError": "errors",
    "TaskInterrupted": "errors",
    "VaultError": "errors",
    "WebhookSecretError": "errors",
    "WebhookSignatureError": "errors",
    "sign_webhook": "protocol.webhook",
    "verify_webhook": "protocol.webhook",
}

__all__ = [
    "Agent",
    "CallError",
    "ConfigError",
    "DeclarationError",
    "KagentError",
    "LoopContext",
    "SecretMismatchError",
    "SecretMissingError",
    "StartupError",
    "State",
    "StateConflictError",
    "StateError",
    "StateKeyError",
    "StateQuotaError",
    "StateValueError",
    "TaskContext",
    "TaskError",
    "TaskInterrupted",
    "VaultError",
    "WebhookSecretError",
    "WebhookSignatureError",
    "__version__",
    "sign_webhook",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kagent_sdk' has no attribute {name!r}")
    value = getattr(import_module(f"kagent_sdk.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

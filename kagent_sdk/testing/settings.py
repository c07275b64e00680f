"""The configuration of an agent under test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ConfigError

if TYPE_CHECKING:
    from kagent_sdk.agent import Agent


def make_config(agent: Agent, config: Mapping[str, Any] | Path | AgentConfig | None) -> AgentConfig:
    """Return the configuration: of a folder, of what config.yaml would say, or the defaults.

    The agent's own name and version count where the configuration has none.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(config, AgentConfig):
        return config
    if isinstance(config, Path):
        from kagent_sdk.config.loading import load_config  # noqa: PLC0415 - it costs PyYAML

        return load_config(config, environ={})
    declared = {"name": agent.name, "version": agent.version}
    known = {key: value for key, value in declared.items() if value is not None}
    try:
        return AgentConfig.model_validate({**known, **(config or {})})
    except ValidationError as exc:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in exc.errors()]
        raise ConfigError("\n".join(faults)) from None


def as_environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that say the same as a mapping of config.yaml's sections."""
    from kagent_sdk.config.environment import variable_of  # noqa: PLC0415 - processes alone

    return dict(_flatten(config, (), variable_of))


def _flatten(
    config: Mapping[str, Any], path: tuple[str, ...], variable_of: Any
) -> list[tuple[str, str]]:
    import json  # noqa: PLC0415

    found: list[tuple[str, str]] = []
    for key, value in config.items():
        place = (*path, key)
        if isinstance(value, Mapping):
            found += _flatten(value, place, variable_of)
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            found.append((variable_of(place), text))
    return found

"""The configuration of an agent under test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kagent_sdk.agent import Agent
from kagent_sdk.config.environment import variable_of
from kagent_sdk.config.keys import known_keys
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import ConfigError
from kagent_sdk.testing.loading import load_agent


def find_agent(
    agent: Agent | Path, config: Mapping[str, Any] | Path | AgentConfig | None
) -> tuple[AgentConfig, Agent]:
    """Return the configuration and the agent that a test means.

    The configuration is that of a folder, or what config.yaml would say, or the defaults. A mapping goes
    over the file of the agent's folder. Its own name and version count where nothing else names them.

    Raises:
        ConfigError: it is none.
        StartupError: there is no agent in the folder.
    """
    if isinstance(agent, Path):
        found = config_in(agent, config)
        return found, load_agent(agent, found.entrypoint)
    declared = {"name": agent.name, "version": agent.version}
    return make_config({key: value for key, value in declared.items() if value}, config), agent


def make_config(
    known: Mapping[str, Any], config: Mapping[str, Any] | Path | AgentConfig | None
) -> AgentConfig:
    """Return a configuration; see `find_agent`.

    Args:
        known: what counts where it says nothing.
        config: the configuration.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(config, AgentConfig):
        return config
    if isinstance(config, Path):
        return config_in(config, None)
    try:
        return AgentConfig.model_validate({**known, **(config or {})})
    except ValidationError as exc:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in exc.errors()]
        raise ConfigError("\n".join(faults)) from None


def config_in(folder: Path, config: Mapping[str, Any] | Path | AgentConfig | None) -> AgentConfig:
    """Return the configuration of a folder, with what a mapping puts over it; another one if given."""
    if isinstance(config, AgentConfig):
        return config
    from kagent_sdk.config.loading import load_config  # noqa: PLC0415 - it costs PyYAML

    if isinstance(config, Path):
        return load_config(config, environ={})
    overrides = {".".join(path): value for path, value in _leaves(config or {}, ())}
    return load_config(folder, environ={}, overrides=overrides)


def as_environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that say the same as a mapping of config.yaml's sections."""
    return {
        variable_of(path): value if isinstance(value, str) else json.dumps(value)
        for path, value in _leaves(config, ())
    }


def _leaves(
    config: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    keys = known_keys().keys()
    sections = {key[:-1] for key in keys}
    for key, value in config.items():
        place = (*path, key)
        # A key may have a mapping for its value: labels.
        if isinstance(value, Mapping) and (place in sections or place not in keys):
            yield from _leaves(value, place)
        else:
            yield place, value

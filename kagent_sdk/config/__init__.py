"""config.yaml and the environment as one frozen `AgentConfig`, or a `ConfigError` that lists it all."""

from kagent_sdk.config.loading import (
    LoadedConfig,
    load_config,
    read_config,
    read_sandbox_file,
)
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.config.schema import config_schema

__all__ = [
    "AgentConfig",
    "LoadedConfig",
    "config_schema",
    "load_config",
    "read_config",
    "read_sandbox_file",
]

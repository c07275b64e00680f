"""The JSON Schema of config.yaml, for editors and for CI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from kagent_sdk.config.models import AgentConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of config.yaml, with descriptions and defaults."""
    _build(AgentConfig)
    schema = AgentConfig.model_json_schema(mode="validation")
    return {
        "$schema": DIALECT,
        **schema,
        "title": "config.yaml of a kOS agent",
        "description": "Every key has a default; AGENT_<SECTION>__<KEY> overrides it.",
    }


def _build(model: type[BaseModel]) -> None:
    """Build the sections in a model, which are built late: before 2.14 pydantic writes no default of others."""
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            _build(field.annotation)
            field.annotation.model_rebuild()

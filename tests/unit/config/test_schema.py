"""The published schema describes what is loaded."""

from __future__ import annotations

from jsonschema_rs import Draft202012Validator, meta

from kagent_sdk.config import AgentConfig, config_schema


def test_it_is_a_schema_of_the_dialect_that_it_names() -> None:
    """Editors pick the dialect by `$schema`."""
    schema = config_schema()

    meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "config.yaml of a kOS agent"


def test_every_key_has_a_description_and_a_default_or_is_required() -> None:
    """The schema is the reference of the keys."""
    schema = config_schema()

    for section in [schema, *schema["$defs"].values()]:
        assert section["description"]
        for key, value in section["properties"].items():
            assert "$ref" in value or value["description"], key
            assert "default" in value or key in section["required"], key


def test_defaults_fit_and_wrong_keys_do_not() -> None:
    """An editor underlines what loading refuses."""
    validator = Draft202012Validator(config_schema())

    assert validator.is_valid({})
    assert validator.is_valid(AgentConfig().model_dump(mode="json"))
    assert not validator.is_valid({"http": {"prot": 1}})
    assert not validator.is_valid({"http": {"port": 70000}})

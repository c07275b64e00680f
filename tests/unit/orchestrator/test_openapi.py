"""The wire as OpenAPI: valid, and generated from the models."""

from __future__ import annotations

import json

from openapi_spec_validator import validate

from kagent_sdk.orchestrator.http.openapi import openapi_bytes, openapi_document
from kagent_sdk.protocol.link import Registration


def test_the_description_is_valid_openapi() -> None:
    """Generators of clients are strict."""
    for has_tokens in (False, True):
        validate(json.loads(openapi_bytes(has_tokens=has_tokens)))


def test_it_has_every_member_of_a_registration() -> None:
    """A member that is added to the model is in the description by itself."""
    schemas = openapi_document(has_tokens=False)["components"]["schemas"]

    assert set(schemas["Link.Registration"]["properties"]) == set(Registration.model_fields)

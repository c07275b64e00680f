"""The options of a capability, and its manifest."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from kagent_sdk.capability import Kind, declare
from kagent_sdk.capability.options import MAX_DESCRIPTION_CHARS
from kagent_sdk.errors import DeclarationError
from kagent_sdk.protocol.manifest import CapabilityManifest
from tests.unit.capability.samples import declare_source


async def digest(text: str) -> int:
    """Count the words.

    More of it:
        indented
    """
    return len(text.split())


def test_name_and_description_come_from_the_function() -> None:
    """The author writes them once; the docstring's indentation stays out."""
    capability = declare(digest)

    assert capability.name == "digest"
    assert capability.function is digest
    assert capability.kind is Kind.ASYNC
    assert capability.description == "Count the words.\n\nMore of it:\n    indented"


def test_name_and_description_can_be_given() -> None:
    """A name for the wire may differ from the function's."""
    capability = declare(digest, name="text.digest-v2", description="  Shorten.  ")

    assert (capability.name, capability.description) == ("text.digest-v2", "Shorten.")


def test_a_function_without_a_docstring_has_no_description() -> None:
    """Nothing is made up."""
    assert declare_source("def f(): ...").description == ""


def test_a_lambda_with_a_name_is_a_capability() -> None:
    """It has no hints to miss."""
    assert declare(lambda: 1, name="one").name == "one"


def test_a_capability_is_frozen() -> None:
    """What was declared is what the host was told."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        declare(digest).name = "other"  # type: ignore[misc]


def test_the_manifest_says_everything_and_is_json() -> None:
    """It travels to the host in the first frame."""
    capability = declare(
        digest,
        idempotent=True,
        max_attempts=5,
        timeout_s=30,
        max_concurrency=2,
        on_disconnect="detach",
        durable=False,
        tags=["text", "fast"],
    )
    manifest = capability.manifest()

    assert CapabilityManifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert json.loads(manifest.model_dump_json(exclude={"input_schema", "description"})) == {
        "name": "digest",
        "output_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "integer",
        },
        "event_schema": None,
        "streams": False,
        "idempotent": True,
        "max_attempts": 5,
        "timeout_s": 30.0,
        "max_concurrency": 2,
        "on_disconnect": "detach",
        "durable": False,
        "tags": ["text", "fast"],
    }


def test_the_manifest_of_a_stream_has_the_schema_of_its_events() -> None:
    """A caller learns that there is a stream, and of what."""
    manifest = declare_source("async def f() -> AsyncIterator[int]: yield 1").manifest()

    assert manifest.streams
    assert manifest.event_schema is not None
    assert manifest.event_schema["type"] == "integer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "two words"}, "name cannot be 'two words': write up to 64 ASCII letters"),
        ({"name": ""}, "name cannot be ''"),
        ({"name": "a\n"}, "name cannot be 'a\\n'"),
        ({"name": "é"}, "name cannot be 'é'"),
        ({"name": "a" * 65}, "name cannot be 'aaa"),
        ({"name": 3}, "name cannot be 3"),
        ({"description": 3}, "description cannot be 3: write a string"),
        (
            {"description": "a" * (MAX_DESCRIPTION_CHARS + 1)},
            "the description has 10001 characters, over the limit of 10000: shorten the docstring",
        ),
        ({"idempotent": "yes"}, "idempotent cannot be 'yes': write True or False"),
        ({"durable": 1}, "durable cannot be 1: write True or False"),
        ({"max_attempts": 0}, "max_attempts cannot be 0: write 1 to 1000"),
        ({"max_attempts": 1001}, "max_attempts cannot be 1001: write 1 to 1000"),
        ({"max_attempts": True}, "max_attempts cannot be True"),
        ({"max_attempts": 1.5}, "max_attempts cannot be 1.5"),
        ({"timeout_s": 0}, "timeout_s cannot be 0: write seconds above 0, or None"),
        ({"timeout_s": -1.5}, "timeout_s cannot be -1.5"),
        ({"timeout_s": float("nan")}, "timeout_s cannot be nan"),
        ({"timeout_s": float("inf")}, "timeout_s cannot be inf"),
        ({"timeout_s": "30"}, "timeout_s cannot be '30'"),
        ({"timeout_s": True}, "timeout_s cannot be True"),
        ({"max_concurrency": 0}, "max_concurrency cannot be 0: write 1 or more, or None"),
        ({"on_disconnect": "detatch"}, "on_disconnect cannot be 'detatch': did you mean 'detach'?"),
        ({"on_disconnect": "Cancel"}, "did you mean 'cancel'?"),
        ({"on_disconnect": None}, "on_disconnect cannot be None: write 'cancel' or 'detach'"),
        ({"tags": "text"}, "tags cannot be 'text': write tags=('text',)"),
        ({"tags": 3}, "tags cannot be 3: write a tuple of strings"),
        ({"tags": ["a", ""]}, "tags cannot be '': write a tuple of strings that are not empty"),
        ({"tags": [1]}, "tags cannot be 1"),
    ],
)
def test_a_wrong_option_is_named_with_the_way_out(options: dict[str, Any], message: str) -> None:
    """A typo fails at import, not in production."""
    with pytest.raises(DeclarationError, match=re.escape(message)):
        declare(digest, **options)

"""The description of the API: valid, complete, and true of what the control plane answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from kagent_sdk.host.http.openapi import openapi_document
from kagent_sdk.journal.record import TaskRecord
from kagent_sdk.protocol import problems
from kagent_sdk.protocol.envelope import EnvelopeError, parse_envelope
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.problem import Problem
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING = {"type": ["object", "null"], "maxProperties": 0}

DIGEST = CapabilityManifest(
    name="digest",
    description="Summarise a document.\n\nMore on it.",
    input_schema={"$ref": "#/$defs/Text", "$defs": {"Text": TEXT}},
    output_schema={"type": "integer"},
)
PING = CapabilityManifest(name="ping", input_schema=NOTHING, output_schema={"type": "string"})
TAIL = CapabilityManifest(
    name="tail",
    input_schema=TEXT,
    output_schema={"type": "array", "items": TEXT},
    event_schema=TEXT,
    streams=True,
)

ROUTES = {
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/status"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/v1/capabilities"),
    ("get", "/v1/tasks"),
    ("post", "/v1/tasks"),
    ("get", "/v1/tasks/{id}"),
    ("get", "/v1/tasks/{id}/events"),
    ("post", "/v1/tasks/{id}/cancel"),
    ("post", "/v1/shutdown"),
    ("post", "/v1/reload"),
    ("post", "/v1/snapshots"),
}
"""The table of design.md, section 4, without the capabilities."""


def describe(
    *capabilities: CapabilityManifest, secured: bool = False, calls_back: bool = True
) -> dict[str, Any]:
    """Return the description of an agent with these capabilities."""
    return openapi_document(
        name="agent",
        version="1.2",
        description="",
        capabilities=capabilities,
        secured=secured,
        calls_back=calls_back,
    )


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every operation by method and path."""
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def is_valid(component: str, value: object, *, calls_back: bool = True) -> bool:
    """Judge a document by its schema in the description."""
    components = describe(calls_back=calls_back)["components"]
    schema = {"$ref": f"#/components/schemas/{component}", "components": components}
    return Draft202012Validator(schema, validate_formats=True).is_valid(value)


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("capabilities", [(), (DIGEST, PING, TAIL)])
def test_it_is_valid_openapi(capabilities: tuple[CapabilityManifest, ...], secured: bool) -> None:
    """Generators refuse a document with one wrong word."""
    document = describe(*capabilities, secured=secured)

    OpenAPIV31SpecValidator(json.loads(json.dumps(document))).validate()


def test_every_route_is_described_and_has_its_own_name() -> None:
    """What is not here does not exist for generated clients."""
    operations = operations_of(describe(DIGEST, PING, TAIL))
    names = [operation["operationId"] for operation in operations.values()]

    assert set(operations) == ROUTES | {
        ("post", "/v1/capabilities/digest"),
        ("post", "/v1/capabilities/ping"),
        ("post", "/v1/capabilities/tail"),
    }
    assert len(names) == len(set(names))
    assert all(operation["summary"] for operation in operations.values())


def test_before_the_worker_is_ready_a_capability_is_called_by_any_name() -> None:
    """The description must not fail, nor be empty, while an agent starts."""
    generic = operations_of(describe())["post", "/v1/capabilities/{name}"]

    assert generic["parameters"][0]["name"] == "name"


def test_a_capability_is_described_by_its_own_schemas() -> None:
    """The point of typed capabilities: clients know what to send and what comes back."""
    document = describe(DIGEST, PING)
    digest = operations_of(document)["post", "/v1/capabilities/digest"]
    ping = operations_of(document)["post", "/v1/capabilities/ping"]

    assert digest["summary"] == "Summarise a document."
    assert ping["summary"] == "Call ping."
    assert digest["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/digest.input"
    }
    assert digest["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/digest.output"
    }
    assert document["components"]["schemas"]["digest.input.Text"] == TEXT
    assert "text/event-stream" in digest["responses"]["200"]["content"]
    assert digest["requestBody"]["required"]
    assert not ping["requestBody"]["required"]


def test_a_secured_agent_demands_its_token_everywhere_but_at_the_probes() -> None:
    """A client must know where to send it, and a scanner checks that it is demanded."""
    secured = describe(DIGEST, secured=True)

    assert secured["security"] == [{"bearer": []}]
    for (_, path), operation in operations_of(secured).items():
        is_probe = path in {"/healthz", "/readyz"}
        assert ("401" in operation["responses"]) is not is_probe
        assert operation.get("security") == ([] if is_probe else None)
    is_open = describe(DIGEST)
    assert "security" not in is_open
    assert not any("401" in each["responses"] for each in operations_of(is_open).values())
    assert "403" in is_open["paths"]["/v1/tasks"]["post"]["responses"]


def test_headers_that_an_answer_must_have_are_described_as_such() -> None:
    """A client may rely on Retry-After and Location."""
    responses = describe(secured=True)["components"]["responses"]
    created = describe()["paths"]["/v1/tasks"]["post"]["responses"]["202"]

    assert responses["Problem429"]["headers"]["Retry-After"]["required"]
    assert responses["Problem503"]["headers"]["Retry-After"]["required"]
    assert responses["Problem401"]["headers"]["WWW-Authenticate"]["required"]
    assert created["headers"]["Location"]["required"]


@pytest.mark.parametrize(
    "problem",
    [
        problems.unknown_capability("digset", ["digest"]),
        problems.no_route(),
        problems.invalid_request([{"loc": ["id"], "msg": "m", "type": "t"}]),
        problems.from_failure(TaskFailure("own", "no", details={"a": [1]}, status=418)),
    ],
)
def test_problems_are_as_described(problem: Problem) -> None:
    """The document is written by hand for speed, and described by a model."""
    assert is_valid("ProblemDocument", json.loads(problem.to_bytes()))


def make_record() -> TaskRecord:
    """Return a task that waits."""
    record = TaskRecord("t-1", DIGEST, b"{}", created_at=1_700_000_000.25)
    record.metadata = b'{"a": 1}'
    return record


def test_tasks_are_as_described() -> None:
    """The document is spliced together by hand for speed, and described by a model."""
    record = make_record()
    assert is_valid("TaskDocument", json.loads(record.document()))
    record.progress = (0.5, "halfway")
    record.state = TaskState.FAILED
    record.started_at = record.finished_at = 1_700_000_001.0
    record.failure = TaskFailure("own", "no")
    document = json.loads(record.document())

    assert is_valid("TaskDocument", document)
    assert not is_valid("TaskDocument", {**document, "state": "done"})
    assert not is_valid("TaskDocument", {**document, "created_at": "yesterday"})
    listed = json.loads(record.document(with_output=False))
    assert is_valid("TaskListDocument", {"tasks": [listed], "next": None})


@pytest.mark.parametrize(
    "body",
    [
        {"capability": "a"},
        {"capability": "a", "input": [1], "id": "x", "timeout_s": 1e9, "metadata": {"a": {}}},
        {"capability": "a", "id": None, "timeout_s": None, "metadata": None, "input": None},
        {"capability": "a", "timeout_s": 5e-324},
        {"capability": "a" * 64, "id": "-" + "." * 127},
        {"capability": ""},
        {"capability": "a" * 65},
        {"capability": None},
        {"capability": "a", "id": ".a"},
        {"capability": "a", "id": 1},
        {"capability": "a", "timeout_s": 0},
        {"capability": "a", "timeout_s": 1e9 + 1},
        {"capability": "a", "timeout_s": True},
        {"capability": "a", "metadata": []},
        {"capability": "a", "callback_url": "x"},
        {"capability": "a", "callback_url": None},
        {"capability": "a", "callback_url": "https://hooks.example.com/x?y"},
        {"capability": "a", "callback_url": "https://"},
        {"capability": "a", "callback_url": "https://a/" + "b" * 2048},
        {"capability": "a", "callbackUrl": None},
        {},
        [],
    ],
)
def test_what_the_description_allows_is_what_is_taken(body: object) -> None:
    """Two readings of one request would be two APIs."""
    try:
        parse_envelope(json.dumps(body).encode())
    except EnvelopeError:
        is_taken = False
    else:
        is_taken = True

    assert is_valid("TaskRequest", body) is is_taken


def test_an_agent_that_allows_no_callback_describes_none() -> None:
    """What the description allows is taken, and here no URL is."""
    body = {"capability": "a", "callback_url": "https://hooks.example.com/x"}

    assert is_valid("TaskRequest", body)
    assert not is_valid("TaskRequest", body, calls_back=False)
    assert is_valid("TaskRequest", body | {"callback_url": None}, calls_back=False)

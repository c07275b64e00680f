"""``/openapi.json`` of an orchestrator: both sides of the link, and the API for callers and operators.

Everything is generated from the models. What the fleet adds is its own affair.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from kagent_sdk import __version__
from kagent_sdk.config.orchestrator import Labels
from kagent_sdk.host.http import documents
from kagent_sdk.protocol.headers import TASK_ID_PATTERN
from kagent_sdk.protocol.link import HOPS_HEADER
from kagent_sdk.protocol.link_openapi import link_paths, link_schemas, link_tag
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE
from kagent_sdk.protocol.sse import SSE_CONTENT_TYPE

Json = dict[str, Any]
JSON = "application/json"
ROOT = "#/components/schemas/"


class MeshTaskSummary(documents.TaskSummaryDocument):
    """A task without its output."""

    agent: str | None = Field(description="Who has it, or had it last, or is asked for.")


class MeshTask(MeshTaskSummary):
    """A task."""

    output: Any = Field(description="By the capability's schema; null unless it is completed.")


class MeshTaskList(documents.Document):
    """One page of tasks, the newest first."""

    tasks: list[MeshTaskSummary]
    next: str | None = Field(description="Value of `after` for the next page; null at the end.")


class MeshTaskRequest(BaseModel):
    """What ``POST /v1/tasks`` takes. Optional members may be null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: str = Field(description="NAME, for any agent that offers it, or AGENT/NAME.")
    input: Any = Field({}, description="By the capability's schema.")
    id: str | None = Field(None, pattern=TASK_ID_PATTERN, description="The idempotency key.")
    timeout_s: float | None = Field(None, gt=0, description="From the submission to the end.")
    metadata: dict[str, Any] | None = None
    labels: Labels | None = Field(None, description="All of them must be the agent's.")


class MeshCapability(CapabilityManifest):
    """A capability of an agent."""

    agent: str


class MeshCapabilityList(documents.Document):
    """What the agents can do."""

    capabilities: list[MeshCapability]


_MODELS: tuple[type[BaseModel], ...] = (
    documents.ProbeDocument,
    documents.ProblemDocument,
    documents.ShutdownDocument,
    MeshTask,
    MeshTaskList,
    MeshTaskRequest,
    MeshCapabilityList,
)


def openapi_bytes(*, has_tokens: bool) -> bytes:
    """Return the description as JSON."""
    return json.dumps(openapi_document(has_tokens=has_tokens)).encode()


def openapi_document(*, has_tokens: bool) -> Json:
    """Return the description.

    Args:
        has_tokens: whether requests need a bearer token.
    """
    models: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = [
        (model, "validation") for model in _MODELS
    ]
    _, schemas = models_json_schema(models, ref_template=f"{ROOT}{{model}}")
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "kagent orchestrator", "version": __version__},
        "tags": [link_tag()],
        "paths": {**_observation(), **_tasks(), **link_paths()},
        "components": {"schemas": {**schemas["$defs"], **link_schemas()}},
    }
    if has_tokens:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
    return document


def _observation() -> Json:
    paths: Json = {}
    for path, name, summary, model in (
        ("/healthz", "getHealth", "Whether it is alive.", "ProbeDocument"),
        ("/readyz", "getReadiness", "Whether it takes tasks.", "ProbeDocument"),
        ("/status", "getStatus", "How it is.", ""),
        ("/openapi.json", "getApi", "This description.", ""),
        ("/v1/capabilities", "listCapabilities", "What the agents can do.", "MeshCapabilityList"),
        ("/v1/agents", "listAgents", "The agents and their instances.", ""),
    ):
        paths[path] = {"get": _operation(name, summary, model)}
    metrics = _operation("getMetrics", "Prometheus metrics.", None)
    metrics["responses"] = {
        "200": {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        "default": _problem(),
    }
    paths["/metrics"] = {"get": metrics}
    shutdown = _operation("shutDown", "Stop, the agents that it started first.", None)
    shutdown["responses"] = {
        "202": {"description": "It begins.", "content": _content("ShutdownDocument")},
        "default": _problem(),
    }
    paths["/v1/shutdown"] = {"post": shutdown}
    return paths


def _tasks() -> Json:
    create = _operation(
        "createTask", "Send a task, and wait for it.", "MeshTask", "MeshTaskRequest"
    )
    create["responses"]["202"] = {
        "description": "It is taken: respond-async was asked for, or the wait is over.",
        "content": _content("MeshTask"),
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
    create["parameters"] = [
        {"name": name, "in": "header", "schema": {"type": "string"}}
        for name in ("Prefer", "traceparent", HOPS_HEADER)
    ]
    listed = _operation("listTasks", "The newest first.", "MeshTaskList")
    listed["parameters"] = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("state", "capability", "agent", "limit", "after")
    ]
    read = _operation("readTask", "One task.", "MeshTask")
    read["parameters"] = [{"name": "wait_s", "in": "query", "schema": {"type": "number"}}]
    follow = _operation("followTask", "Its events, from Last-Event-ID on.", None)
    follow["parameters"] = [{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}]
    follow["responses"] = {
        "200": {
            "description": "state, progress, event, gap, and last of all task.",
            "content": {SSE_CONTENT_TYPE: {"schema": {"type": "string"}}},
        },
        "default": _problem(),
    }
    cancel = _operation("cancelTask", "Want no more of it.", "MeshTask")
    cancel["responses"]["202"] = {
        "description": "Its agent is told.",
        "content": _content("MeshTask"),
    }
    return {
        "/v1/tasks": {"get": listed, "post": create},
        "/v1/tasks/{id}": {"parameters": [_task_id()], "get": read},
        "/v1/tasks/{id}/events": {"parameters": [_task_id()], "get": follow},
        "/v1/tasks/{id}/cancel": {"parameters": [_task_id()], "post": cancel},
    }


def _operation(name: str, summary: str, answer: str | None, request: str | None = None) -> Json:
    """Return an operation; ``answer``: a model, "" for any object, or None for 204 without a body."""
    responses: Json = {"default": _problem()}
    if answer is None:
        responses["204"] = {"description": "Noted."}
    else:
        responses["200"] = {"description": "Done.", "content": _content(answer)}
    operation: Json = {"operationId": name, "summary": summary, "responses": responses}
    if request is not None:
        operation["requestBody"] = {"required": True, "content": _content(request)}
    return operation


def _content(model: str) -> Json:
    return {JSON: {"schema": {"$ref": f"{ROOT}{model}"} if model else {"type": "object"}}}


def _problem() -> Json:
    schema = {"$ref": f"{ROOT}ProblemDocument"}
    return {
        "description": "It was not done (RFC 9457).",
        "content": {PROBLEM_CONTENT_TYPE: {"schema": schema}},
    }


def _task_id() -> Json:
    schema = {"type": "string", "pattern": TASK_ID_PATTERN}
    return {"name": "id", "in": "path", "required": True, "schema": schema}

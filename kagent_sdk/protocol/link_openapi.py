"""kLink over HTTP as a part of an OpenAPI 3.1 document, generated from the models.

The orchestrator's side is paths; that of an agent that is pushed to is a callback of its registration.
Names of components begin with ``Link.``, so that they can be merged into another document's.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from kagent_sdk.protocol import link
from kagent_sdk.protocol.envelope import MAX_CAPABILITY_CHARS, MAX_TIMEOUT_S
from kagent_sdk.protocol.headers import MISSED_BEATS, TASK_ID_PATTERN
from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE

Json = dict[str, Any]

LINK_TAG = "link"
AGENTS_PATH = "/v1/link/agents"

_PREFIX = "Link."
_REQUESTS: tuple[type[BaseModel], ...] = (
    link.Registration,
    link.Heartbeat,
    link.Fetch,
    link.Reports,
    link.Goodbye,
)
_ANSWERS: tuple[type[BaseModel], ...] = (
    link.Registered,
    link.HeartbeatAnswer,
    link.ReportsAnswer,
)

_PROBLEMS = {
    "400": "The request is malformed.",
    "401": "The bearer token is missing or wrong.",
    "404": "The agent is not registered: it should register, and go on.",
    "413": "The body is too large.",
    "415": "The body is not announced as JSON.",
    "422": "The body is no message of kLink; it will never be taken.",
    "500": "The orchestrator failed.",
    "503": "The orchestrator starts, stops, or has no room on its disk; it is asked again.",
}


def link_tag() -> Json:
    """Return the tag of the link's operations."""
    return {"name": LINK_TAG, "description": "For agents: registration, tasks, reports."}


def link_schemas() -> Json:
    """Return the link's components, each by a name that begins with ``Link.``."""
    models: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = [
        *((model, "validation") for model in _REQUESTS),
        *((model, "serialization") for model in _ANSWERS),
    ]
    _, schemas = models_json_schema(models, ref_template=f"#/components/schemas/{_PREFIX}{{model}}")
    components = {f"{_PREFIX}{name}": schema for name, schema in schemas["$defs"].items()}
    return {**components, f"{_PREFIX}Offer": _OFFER, f"{_PREFIX}Problem": _PROBLEM}


def link_paths() -> Json:
    """Return the paths that agents ask for, and with the first of them what they are asked."""
    register = _operation(
        "registerAgent",
        "Say who an agent is, and what it can do.",
        "Registration",
        {"200": _answer("It is noted.", "Registered")},
    )
    register["callbacks"] = {"offer": {"{$request.body#/url}/v1/tasks": {"post": _offered()}}}
    return {
        AGENTS_PATH: {"post": register},
        f"{AGENTS_PATH}/{{instance}}/heartbeat": _of_agent(
            "heartbeat",
            "Say that an agent lives, and which tasks it holds.",
            "Heartbeat",
            {"200": _answer("What it should know.", "HeartbeatAnswer")},
        ),
        f"{AGENTS_PATH}/{{instance}}/fetch": _of_agent(
            "fetchTask",
            "Ask for a task, and wait for one.",
            "Fetch",
            {
                "200": {**_answer("A task, with its lease.", "Offer"), "headers": _offer_headers()},
                "204": {"description": "There was none for so long."},
            },
        ),
        f"{AGENTS_PATH}/{{instance}}/reports": _of_agent(
            "report",
            "Tell the events and ends of tasks; the same report may come again.",
            "Reports",
            {"200": _answer("What became of each.", "ReportsAnswer")},
        ),
        f"{AGENTS_PATH}/{{instance}}/goodbye": _of_agent(
            "sayGoodbye",
            "Take no more tasks, or be gone.",
            "Goodbye",
            {"204": {"description": "It is noted."}},
        ),
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{_PREFIX}{name}"}


def _answer(description: str, model: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(model)}}}


def _operation(operation_id: str, summary: str, takes: str, answers: Json) -> Json:
    problems = {
        status: {
            "description": description,
            "content": {PROBLEM_CONTENT_TYPE: {"schema": _ref("Problem")}},
        }
        for status, description in _PROBLEMS.items()
    }
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": [LINK_TAG],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(takes)}},
        },
        "responses": {**answers, **problems},
    }


def _of_agent(operation_id: str, summary: str, takes: str, answers: Json) -> Json:
    instance = {
        "name": "instance",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": link.WORD_PATTERN},
        "description": "Of the registration.",
    }
    return {
        "parameters": [instance],
        "post": _operation(operation_id, summary, takes, answers),
    }


def _offered() -> Json:
    return {
        "operationId": "offerTask",
        "summary": "With push: offer a task to the agent.",
        "tags": [LINK_TAG],
        "parameters": [
            {"name": name, "in": "header", **header} for name, header in _offer_headers().items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("Offer")}},
        },
        "responses": {
            "200": {"description": "The agent had it before, and it has ended."},
            "202": {"description": "The agent has it; its end is reported over the link."},
            "default": {
                "description": "It is not taken: for now with 429 and 503, else for good.",
                "content": {PROBLEM_CONTENT_TYPE: {"schema": _ref("Problem")}},
            },
        },
    }


def _offer_headers() -> Json:
    word = {"type": "string", "pattern": link.WORD_PATTERN}
    hops = {"type": "integer", "minimum": 0, "maximum": link.MAX_HOPS}
    return {
        link.LEASE_HEADER: {
            "description": "Of this attempt; whoever has it reports the task.",
            "required": True,
            "schema": word,
        },
        link.ATTEMPT_HEADER: {
            "description": "Which attempt it is, over all agents.",
            "schema": {"type": "integer", "minimum": 1},
        },
        link.HOPS_HEADER: {
            "description": "How many agents have passed on the call behind it.",
            "schema": hops,
        },
        link.BEAT_HEADER: {
            "description": "The last beat that was heard of the agent: after "
            f"{MISSED_BEATS} more it is too late for the offer. 0: not known.",
            "schema": {"type": "integer", "minimum": 0, "maximum": link.MAX_COUNT},
        },
        "traceparent": {"description": "W3C Trace Context.", "schema": {"type": "string"}},
    }


_OFFER: Json = {
    "title": "Offer",
    "description": "A task, in the shape of an agent's POST /v1/tasks.",
    "type": "object",
    "required": ["id", "capability"],
    "properties": {
        "id": {"type": "string", "pattern": TASK_ID_PATTERN},
        "capability": {"type": "string", "minLength": 1, "maxLength": MAX_CAPABILITY_CHARS},
        "input": {"description": "By the capability's schema; {} if it is left out."},
        "timeout_s": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": MAX_TIMEOUT_S,
            "description": "What is left of the caller's time; null for the capability's own.",
        },
        "metadata": {"type": ["object", "null"]},
    },
}
_PROBLEM: Json = {
    "title": "Problem",
    "description": "Why a request was not served (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable name for programs."},
    },
}

"""``/openapi.json``: the whole control plane as OpenAPI 3.1, capabilities included.

It is exact: what it allows is taken, what it does not allow is refused, and no answer has a status,
a header or a shape that is not in it. A test lets schemathesis try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent_sdk.host.http.schemas import capability_schemas, document_schemas, ref
from kagent_sdk.host.http.tasks import DEFAULT_LIMIT, MAX_LIMIT, MAX_WAIT_S
from kagent_sdk.protocol.headers import (
    IDEMPOTENCY_KEY_PATTERN,
    LAST_EVENT_ID_PATTERN,
    TASK_ID_PATTERN,
)
from kagent_sdk.protocol.manifest import NAME_PATTERN
from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE
from kagent_sdk.protocol.sse import SSE_CONTENT_TYPE
from kagent_sdk.protocol.tasks import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kagent_sdk.protocol.manifest import CapabilityManifest

Json = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
JSON = "application/json"

_SECONDS = {"type": "integer", "minimum": 1}
_RETRY_AFTER = {"Retry-After": ("Seconds to wait before asking again.", _SECONDS)}
_CHALLENGE = {"WWW-Authenticate": ("What to send: a bearer token.", {"type": "string"})}

_PROBLEMS: dict[str, tuple[str, dict[str, tuple[str, Json]]]] = {
    "400": ("The request is malformed: not HTTP, not JSON, or a header or parameter is wrong.", {}),
    "401": ("The bearer token is missing or wrong.", _CHALLENGE),
    "403": ("The request comes from a web page, or by a foreign host name.", {}),
    "404": ("There is no such task or capability.", {}),
    "408": ("The request took too long to arrive.", {}),
    "409": ("The id is taken, the task canceled, the reload failed, or a snapshot under way.", {}),
    "413": ("The body is over http.max_body_bytes.", {}),
    "415": ("The body is not announced as JSON.", {}),
    "422": ("The body does not validate; error.details says where.", {}),
    "429": ("The queue is full.", _RETRY_AFTER),
    "500": ("The capability, the snapshot, or the agent, failed.", {}),
    "502": ("The worker crashed, or another agent could not be reached.", {}),
    "503": (
        "The agent takes no tasks now: it starts, drains, or is short of memory.",
        _RETRY_AFTER,
    ),
    "504": ("The task timed out.", {}),
    "4XX": ("An error of the capability's own.", {}),
    "5XX": ("An error of the capability's own.", {}),
}
_ALWAYS = ("400", "500")
_WITH_BODY = ("408", "413", "415")
_SUBMITTING = (*_WITH_BODY, "404", "409", "422", "429", "503")
_CALLING = (*_SUBMITTING, "502", "504", "4XX", "5XX")


def openapi_document(
    *,
    name: str,
    version: str,
    description: str,
    capabilities: Sequence[CapabilityManifest],
    secured: bool,
    calls_back: bool,
) -> Json:
    """Return the description of an agent's control plane.

    Args:
        name: the agent's.
        version: the agent's.
        description: the agent's; may be empty.
        capabilities: those that the agent offers at the moment.
        secured: whether requests need a bearer token.
        calls_back: whether any callback is allowed.
    """
    paths = _Paths(is_secured=secured)
    document: Json = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": name, "version": version, "description": description},
        "tags": [
            {"name": "capabilities", "description": "What the agent can do, called directly."},
            {"name": "tasks", "description": "Tasks that are kept, and can be asked for later."},
            {"name": "observation", "description": "How the agent is."},
            {"name": "lifecycle", "description": "For the orchestrator."},
        ],
        "paths": {
            **paths.observation(),
            **paths.capabilities(capabilities),
            **paths.tasks(),
            **paths.lifecycle(),
        },
        "components": {
            "schemas": _schemas(capabilities, calls_back=calls_back),
            "responses": {
                _response_name(status): _problem_response(status) for status in _PROBLEMS
            },
        },
    }
    if secured:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
    return document


def _schemas(capabilities: Iterable[CapabilityManifest], *, calls_back: bool) -> Json:
    schemas = document_schemas()
    if not calls_back:
        # No URL would be taken.
        members = schemas["TaskRequest"]["properties"]
        members["callback_url"] = {"type": "null", "title": members["callback_url"]["title"]}
    for capability in capabilities:
        schemas |= capability_schemas(capability)
    return schemas


class _Paths:
    """Writes the paths; knows whether each operation needs a token."""

    def __init__(self, *, is_secured: bool) -> None:
        self._always = (*_ALWAYS, "401" if is_secured else "403")

    def observation(self) -> Json:
        return {
            "/healthz": {"get": self._probe("getHealth", "Whether the agent is alive.")},
            "/readyz": {"get": self._probe("getReadiness", "Whether the agent takes tasks.")},
            "/status": {
                "get": self._get(
                    "getStatus",
                    "Everything about the agent's state.",
                    _json(ref("Status")),
                    ("503",),
                )
            },
            "/metrics": {
                "get": self._get(
                    "getMetrics", "Prometheus metrics.", _content("text/plain", _TEXT), ("503",)
                )
            },
            "/openapi.json": {
                "get": self._get("getApi", "This description.", _json({"type": "object"}))
            },
        }

    def capabilities(self, capabilities: Sequence[CapabilityManifest]) -> Json:
        listed = _json(ref("CapabilityListDocument"))
        paths: Json = {
            "/v1/capabilities": {
                "get": self._get("listCapabilities", "What the agent can do.", listed)
            }
        }
        paths["/v1/capabilities"]["get"]["tags"] = ["capabilities"]
        for capability in capabilities:
            paths[f"/v1/capabilities/{capability.name}"] = {"post": self._call(capability)}
        if not capabilities:
            paths["/v1/capabilities/{name}"] = {"post": self._call_any()}
        return paths

    def tasks(self) -> Json:
        return {
            "/v1/tasks": {"get": self._list_tasks(), "post": self._create_task()},
            "/v1/tasks/{id}": {"get": self._read_task()},
            "/v1/tasks/{id}/events": {"get": self._follow_task()},
            "/v1/tasks/{id}/cancel": {"post": self._cancel_task()},
        }

    def lifecycle(self) -> Json:
        accepted = {"202": {"description": "It begins.", "content": _json(ref("ShutdownDocument"))}}
        return {
            "/v1/shutdown": {
                "post": self._operation("shutDown", "Finish the tasks and exit.", accepted, ())
            },
            "/v1/reload": {"post": self._reload()},
            "/v1/snapshots": {"post": self._snapshot()},
        }

    def _reload(self) -> Json:
        content = _json(ref("ReloadInfo"))
        location = {"Location": ("Where to look for the outcome.", _TEXT)}
        answers = {
            "200": {"description": "The new workers took over.", "content": content},
            "202": {
                "description": "It goes on: respond-async was asked for, or wait is over.",
                "headers": _headers(location),
                "content": content,
            },
        }
        operation = self._operation(
            "reload",
            "Replace the workers, and read the configuration anew.",
            answers,
            ("409", "503"),
        )
        operation["parameters"] = [_PREFER]
        return operation

    def _snapshot(self) -> Json:
        location = {"Location": ("Where to look for the outcome.", _TEXT)}
        answers = {
            "201": {
                "description": "It is made.",
                "content": _json(ref("SnapshotDocument")),
            },
            "202": {
                "description": "It is being made: respond-async was asked for, or wait is over.",
                "headers": _headers(location),
                "content": _json(ref("SnapshotsInfo")),
            },
        }
        operation = self._operation(
            "takeSnapshot",
            "Put the state and the open tasks into a file, while the agent serves.",
            answers,
            (*_WITH_BODY, "409", "422", "429", "503"),
        )
        operation["parameters"] = [_PREFER]
        operation["requestBody"] = {"required": False, "content": _json(ref("SnapshotRequest"))}
        return operation

    def _operation(
        self, operation_id: str, summary: str, answers: Json, problems: Iterable[str]
    ) -> Json:
        statuses = sorted({*self._always, *problems})
        refused = {
            status: {"$ref": f"#/components/responses/{_response_name(status)}"}
            for status in statuses
        }
        return {
            "operationId": operation_id,
            "summary": summary,
            "tags": ["lifecycle"],
            "responses": {**answers, **refused},
        }

    def _get(
        self, operation_id: str, summary: str, content: Json, problems: Iterable[str] = ()
    ) -> Json:
        answers = {"200": {"description": "As asked for.", "content": content}}
        operation = self._operation(operation_id, summary, answers, problems)
        operation["tags"] = ["observation"]
        return operation

    def _probe(self, operation_id: str, summary: str) -> Json:
        content = _json(ref("ProbeDocument"))
        operation = self._get(operation_id, summary, content)
        for status in ("401", "403"):
            operation["responses"].pop(status, None)
        operation["responses"]["503"] = {
            "description": "No; the document says why.",
            "headers": _headers(_RETRY_AFTER),
            "content": content,
        }
        operation["security"] = []
        return operation

    def _call(self, capability: CapabilityManifest) -> Json:
        name = capability.name
        operation = self._calling(
            f"call_{name}",
            capability.description.partition("\n")[0][:120] or f"Call {name}.",
            ref(f"{name}.input"),
            ref(f"{name}.output"),
        )
        operation["description"] = capability.description
        # A capability without parameters takes no body at all, too.
        operation["requestBody"]["required"] = capability.input_schema.get("maxProperties") != 0
        return operation

    def _call_any(self) -> Json:
        # Only while no capability is known. Afterwards the template would stand for all the names
        # that the agent does not have (OpenAPI 3.1, Path Templating Matching).
        operation = self._calling("callCapability", "Call a capability by its name.", {}, {})
        name = _path_parameter("name", NAME_PATTERN, "Of the capability.")
        operation["parameters"] = [name, *operation["parameters"]]
        return operation

    def _calling(self, operation_id: str, summary: str, takes: Json, gives: Json) -> Json:
        answers = {"200": {"description": "The output.", "content": _json(gives) | _EVENTS}}
        operation = self._operation(operation_id, summary, answers, _CALLING)
        operation["tags"] = ["capabilities"]
        operation["parameters"] = [_IDEMPOTENCY_KEY, _TRACEPARENT]
        operation["requestBody"] = {"required": True, "content": _json(takes)}
        return operation

    def _list_tasks(self) -> Json:
        operation = self._get("listTasks", "Tasks, newest first.", _json(ref("TaskListDocument")))
        states = {"type": "string", "enum": [state.value for state in TaskState]}
        limits = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        operation["tags"] = ["tasks"]
        operation["parameters"] = [
            _query_parameter("state", states, "Only tasks in this state."),
            _query_parameter("capability", _TEXT, "Only tasks to this capability."),
            _query_parameter("limit", limits, "How many."),
            _query_parameter("after", _TEXT, "`next` of the page before."),
        ]
        return operation

    def _create_task(self) -> Json:
        location = {"Location": ("Where to ask for the task.", _TEXT)}
        done = {
            "description": "The finished task, whatever its state.",
            "content": _json(ref("TaskDocument")) | _EVENTS,
            "links": _TASK_LINKS,
        }
        accepted = {
            "description": "The task, which goes on: respond-async was asked for, or wait is over.",
            "headers": _headers(location),
            "content": _json(ref("TaskDocument")),
            "links": _TASK_LINKS,
        }
        operation = self._operation(
            "createTask", "Run a task and keep it.", {"200": done, "202": accepted}, _SUBMITTING
        )
        operation["tags"] = ["tasks"]
        operation["parameters"] = [_PREFER, _TRACEPARENT]
        operation["requestBody"] = {"required": True, "content": _json(ref("TaskRequest"))}
        return operation

    def _read_task(self) -> Json:
        operation = self._get("getTask", "One task.", _json(ref("TaskDocument")), ("404",))
        wait = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0}
        operation["tags"] = ["tasks"]
        operation["parameters"] = [
            _TASK_ID,
            _query_parameter("wait_s", wait, "Answer when the task ends, or after this time."),
        ]
        return operation

    def _follow_task(self) -> Json:
        operation = self._get("followTask", "What happens in a task.", _EVENTS, ("404",))
        last = {"type": "string", "pattern": LAST_EVENT_ID_PATTERN}
        operation["tags"] = ["tasks"]
        operation["parameters"] = [
            _TASK_ID,
            _header_parameter("Last-Event-ID", last, "Replay what came after this event."),
        ]
        return operation

    def _cancel_task(self) -> Json:
        content = _json(ref("TaskDocument"))
        answers = {
            "200": {"description": "The task, which has ended.", "content": content},
            "202": {"description": "The task, which is being canceled.", "content": content},
        }
        operation = self._operation("cancelTask", "Cancel a task.", answers, ("404",))
        operation["tags"] = ["tasks"]
        operation["parameters"] = [_TASK_ID]
        return operation


_TEXT: Json = {"type": "string"}


def _content(media_type: str, schema: Json) -> Json:
    return {media_type: {"schema": schema}}


def _json(schema: Json) -> Json:
    return _content(JSON, schema)


_EVENTS = _content(SSE_CONTENT_TYPE, ref("EventDocument"))


def _header_parameter(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _query_parameter(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _path_parameter(name: str, pattern: str, description: str) -> Json:
    schema = {"type": "string", "pattern": pattern}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": schema,
        "description": description,
    }


_TASK_ID = _path_parameter("id", TASK_ID_PATTERN, "Of the task.")
_IDEMPOTENCY_KEY = _header_parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN},
    "Makes the call the task of this id: asked again, it gives the same result.",
)
_TRACEPARENT = _header_parameter("traceparent", _TEXT, "W3C Trace Context; ignored if malformed.")
_PREFER = _header_parameter(
    "Prefer", _TEXT, "respond-async, and wait=SECONDS (RFC 7240); other wishes are ignored."
)
_TASK_LINKS = {
    operation_id: {"operationId": operation_id, "parameters": {"id": "$response.body#/id"}}
    for operation_id in ("getTask", "followTask", "cancelTask")
}


def _headers(headers: dict[str, tuple[str, Json]]) -> Json:
    return {
        name: {"description": description, "required": True, "schema": schema}
        for name, (description, schema) in headers.items()
    }


def _response_name(status: str) -> str:
    return f"Problem{status}"


def _problem_response(status: str) -> Json:
    description, headers = _PROBLEMS[status]
    response: Json = {
        "description": description,
        "content": _content(PROBLEM_CONTENT_TYPE, ref("ProblemDocument")),
    }
    if headers:
        response["headers"] = _headers(headers)
    return response

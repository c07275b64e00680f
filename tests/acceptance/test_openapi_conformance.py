"""``/openapi.json`` tells the truth: schemathesis tries all of it against a live agent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator

from tests.agents import RunningAgent, running_agent

CONFORMANCE = Path(__file__).parent / "conformance"
TOKEN = "conformance-0123456789abcdef"  # noqa: S105 - guards an agent of this test alone

NEVER_TRIED = "shutDown"
"""It does what it says; a test of its own below comes last in an agent's life."""

TRIED_APART = "reload"
"""Each takes a second and other workers: a test of its own below."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """Run the agent of every shape, with a token: who has none must be refused everywhere."""
    folder = tmp_path / "conformance"
    shutil.copytree(CONFORMANCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    with running_agent(folder, env={"AGENT_TOKEN_FILE": str(token_file)}) as running:
        running.headers["Authorization"] = f"Bearer {TOKEN}"
        yield running


@pytest.mark.parametrize(
    "options",
    [
        ["--max-examples=20", "--generation-deterministic"],
        pytest.param(["--max-examples=500"], marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
    ids=["short", "long"],
)
def test_the_api_is_as_it_is_described(
    agent: RunningAgent, tmp_path: Path, options: list[str]
) -> None:
    """What is allowed is taken, what is not is refused, and every answer is one that is named."""
    worker = agent.worker_pids
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            "--no-color",
            *("run", f"{agent.url}/openapi.json", "--checks=all", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--exclude-operation-id", NEVER_TRIED),
            *("--exclude-operation-id", TRIED_APART),
            *options,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
    assert "request_failed" not in agent.log_text
    assert agent.worker_pids == worker
    tasks = agent.status()["tasks"]
    assert (tasks["working"], tasks["queued"]) == (0, 0)
    assert tasks["completed"] > 20


def test_every_route_is_described_and_none_besides(agent: RunningAgent) -> None:
    """Nobody has to read our source to find a route."""
    described = {
        (method.upper(), path)
        for path, operations in agent.get("/openapi.json").json()["paths"].items()
        for method in operations
    }

    assert described == {
        *(("GET", path) for path in ("/healthz", "/readyz", "/status", "/metrics")),
        ("GET", "/openapi.json"),
        ("GET", "/v1/capabilities"),
        *(("POST", f"/v1/capabilities/{name}") for name in ("measure", "greet", "count", "ping")),
        ("GET", "/v1/tasks"),
        ("POST", "/v1/tasks"),
        ("GET", "/v1/tasks/{id}"),
        ("GET", "/v1/tasks/{id}/events"),
        ("POST", "/v1/tasks/{id}/cancel"),
        *(("POST", f"/v1/{name}") for name in ("shutdown", "reload", "snapshots")),
    }


@pytest.mark.parametrize(
    ("prefer", "status"), [("wait=60", "200"), ("respond-async", "202"), ("wait=0", "202")]
)
def test_a_reload_answers_as_described(agent: RunningAgent, prefer: str, status: str) -> None:
    """An orchestrator reads the outcome by the schema."""
    answer = agent.post("/v1/reload", headers={"Prefer": prefer})
    document = agent.get("/openapi.json").json()
    operation = document["paths"]["/v1/reload"]["post"]
    described = operation["responses"][status]
    schema = described["content"]["application/json"]["schema"] | {
        "components": document["components"]
    }

    assert operation["operationId"] == TRIED_APART
    assert answer.status == int(status)
    assert Draft202012Validator(schema).is_valid(answer.json())
    assert all(name in answer.headers for name in described.get("headers", {}))


def test_the_shutdown_answers_as_described(agent: RunningAgent) -> None:
    """The one operation that the others would not survive."""
    document = agent.get("/openapi.json").json()
    operation = document["paths"]["/v1/shutdown"]["post"]
    name = operation["responses"]["202"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][name.rsplit("/", 1)[1]]
    answer = agent.post("/v1/shutdown")

    assert operation["operationId"] == NEVER_TRIED
    assert answer.status == 202
    assert answer.json().keys() == schema["properties"].keys()
    assert agent.wait() == 0

"""No value of the vault leaves the process tree: not in a file, not on a terminal, not in /status."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.redaction.redactor import Redactor
from tests.agents import RunningAgent, running_agent, start_agent
from tests.integration.conftest import copy_blabber
from tests.integration.vaults import EXPOSE, make_vault, put_vault, vault_file
from tests.integration.waiting import wait_until

TOKEN = "token-of-the-agent-0123456789"  # noqa: S105 - planted, to be searched for
FILE_TOKEN = "token-from-a-file-0123456789"  # noqa: S105 - as above


@pytest.fixture
def blabber(tmp_path: Path) -> Path:
    """Return the folder of an agent that cannot keep a secret."""
    folder = copy_blabber(tmp_path)
    (folder / "config.yaml").write_text(EXPOSE)
    put_vault(folder, make_vault(1, pem=PEM))
    return folder


PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nAbCdEfGhIjKlMnOpQrSt\n-----END KEY-----\n"


def values_of(content: Any) -> Iterator[str]:
    """Yield every string of a vault that is long enough to be looked for."""
    if isinstance(content, dict):
        for value in content.values():
            yield from values_of(value)
    elif len(content) >= 6:
        yield from (line for line in content.split("\n") if line and "-----" not in line)


def encodings_of(value: str) -> set[bytes]:
    """Return a value as the test's own encoders write it; the redactor's have no part in this."""
    raw = value.encode()
    return {
        raw,
        json.dumps(value)[1:-1].encode(),
        json.dumps(json.dumps(value)).encode()[3:-3],
        urllib.parse.quote(value).encode(),
        urllib.parse.quote_plus(value).encode(),
        raw.hex().encode(),
        base64.b64encode(raw).rstrip(b"=")[:-1],
        base64.b64encode(b"user:" + raw)[8:-4],
        base64.urlsafe_b64encode(b"x" + raw + b"yz")[4:-4],
    }


def assert_nothing_leaked(agent: RunningAgent, extra: bytes, *contents: Any) -> None:
    """Search every file of the agent's folder, what the host printed, and answers, for values."""
    files = [path for path in agent.directory.rglob("*") if path.is_file()]
    searched = [path for path in files if path.parent.name != "secrets"]
    texts = {str(path): path.read_bytes() for path in [*searched, agent.log_file]}
    texts["answers"] = extra
    assert any(path.endswith("runtime.log") for path in texts)
    for value in {value for content in contents for value in values_of(content)}:
        for form in encodings_of(value):
            for name, text in texts.items():
                assert form not in text, (name, form)


def answers_of(agent: RunningAgent) -> bytes:
    """Return what the host tells about itself."""
    return b"".join(agent.get(path).body for path in ("/status", "/metrics", "/healthz"))


def log_lines(agent: RunningAgent) -> list[dict[str, Any]]:
    """Return the lines of the log so far."""
    text = (agent.directory / "logs" / "runtime.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_a_full_run_leaves_no_secret_in_clear_or_encoded(blabber: Path) -> None:
    """Logs go to places that a vault never goes to."""
    content = make_vault(1, pem=PEM)
    rotated = make_vault(2, pem=PEM)
    with running_agent(blabber, env={"AGENT_WORKER__BACKOFF_INITIAL_S": "0.01"}) as agent:
        agent.call("blab")
        assert agent.post("/v1/capabilities/fail", {}).status == 500
        put_vault(blabber, rotated)
        wait_until(lambda: agent.call("current")["number"] == "2")
        agent.call("blab")
        assert agent.post("/v1/capabilities/crash", {}).status == 502
        wait_until(lambda: agent.status()["workers"]["ready"] == 1)
        wait_until(lambda: any(loop["last_error"] for loop in agent.status()["loops"]))
        answers = answers_of(agent)

    assert_nothing_leaked(agent, answers, content, rotated)
    text = json.dumps(log_lines(agent))
    assert text.count("in two ***key*** pieces") == 2
    assert "in two ***db.password*** pieces" in text
    assert "***key***" in agent.log_text
    status = json.loads(answers.partition(b"\n# HELP")[0].split(b"# HELP")[0])
    assert "last words ***key***" in status["workers"]["last_crash"]["traceback"]
    assert status["loops"][0]["last_error"] == "RuntimeError: loop ***key***"


def test_the_agents_own_token_is_taken_out_wherever_it_comes_from(
    blabber: Path, tmp_path: Path
) -> None:
    """A worker that learns it, from a request or a file, must not be able to print it either."""
    put_vault(blabber, make_vault(1, agent_token=TOKEN))
    token_file = tmp_path / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(f"{FILE_TOKEN}\n")
    script = (blabber / "entrypoint.py").read_text()
    printing = f'print("{TOKEN} {FILE_TOKEN}", flush=True)\n\nif __name__'
    (blabber / "entrypoint.py").write_text(script.replace("if __name__", printing))

    agent = start_agent(blabber, env={"AGENT_TOKEN_FILE": str(token_file)})
    agent.headers["Authorization"] = f"Bearer {FILE_TOKEN}"
    try:
        agent.wait_ready()
        assert agent.get("/status", headers={"Authorization": f"Bearer {TOKEN}"}).status == 401
        assert agent.stop() == 0
    finally:
        agent.kill()

    lines = [line["event"] for line in log_lines(agent) if line["stream"] == "stdout"]
    assert lines == ["***agent_token*** ***agent_token_file***"]
    (blabber / "entrypoint.py").unlink()
    assert_nothing_leaked(agent, b"", {"a": TOKEN, "b": FILE_TOKEN})


@pytest.mark.parametrize("kind", ["clear", "encoded", "large"])
@pytest.mark.parametrize("is_task", [False, True])
def test_a_guarded_output_with_a_secret_is_not_delivered(
    guarded: RunningAgent, kind: str, is_task: bool
) -> None:
    """A model that was talked into saying its key must not be able to."""
    if is_task:
        answer = guarded.post("/v1/tasks", {"capability": "give", "input": {"kind": kind}})
        error = answer.json()["error"]
        assert answer.json()["output"] is None
    else:
        answer = guarded.post("/v1/capabilities/give", {"kind": kind})
        error = answer.json()["error"]
        assert answer.status == 500

    assert (error["code"], error["retryable"]) == ("secret_in_output", False)
    assert not REDACTOR.finds_in(answer.body)


@pytest.mark.parametrize("kind", ["error", "exception", "progress", "event"])
def test_guarded_errors_progress_and_events_hold_no_secret(
    guarded: RunningAgent, kind: str
) -> None:
    """What is not the output reaches the caller too."""
    task = guarded.post("/v1/tasks", {"capability": "give", "input": {"kind": kind}}).json()
    events = guarded.get(
        f"/v1/tasks/{task['id']}/events", headers={"Accept": "text/event-stream"}
    ).body

    assert not REDACTOR.finds_in(json.dumps(task).encode() + events)
    match kind:
        case "error":
            assert task["error"]["message"] == "cannot use ***key***"
            assert task["error"]["details"] is None
        case "exception":
            assert task["error"]["message"] == "ValueError: ***key***"
        case "progress":
            assert (task["state"], task["progress"]["message"]) == ("completed", "using ***key***")
        case _:
            assert task["error"]["code"] == "secret_in_output"


def test_a_guarded_stream_ends_before_the_secret(guarded: RunningAgent) -> None:
    """What was sent before it is delivered; the item with it and all after are not."""
    events = list(guarded.stream("give_stream"))

    items = [event.data for event in events if event.name == "event"]
    assert items == ["fine"]
    assert events[-1].data["error"]["code"] == "secret_in_output"
    assert not REDACTOR.finds_in(json.dumps([event.data for event in events]).encode())


def test_without_the_guard_outputs_are_not_rewritten(blabber: Path) -> None:
    """An agent whose business is secrets, such as one that makes passwords, must be possible."""
    with running_agent(blabber) as agent:
        assert agent.call("give", {"kind": "clear"}) == {"deep": [make_vault(1)["key"]]}


REDACTOR = Redactor({"key": make_vault(1)["key"]})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Return an agent whose results are guarded."""
    folder = copy_blabber(tmp_path_factory.mktemp("guarded"))
    (folder / "config.yaml").write_text(f"{EXPOSE}  guard_results: true\n")
    put_vault(folder, make_vault(1))
    with running_agent(folder) as agent:
        yield agent


@pytest.mark.parametrize(
    ("content", "mode", "config", "reason"),
    [
        (b'{"key": ', 0o600, "", "is not valid JSON"),
        (b"[]", 0o600, "", "must be a JSON object"),
        (b"{}", 0o644, "", "open to every user"),
        (b"{}", 0o602, "", "open to every user"),
        (b'{"key": "%b"}' % (b"x" * 1024 * 1024), 0o600, "", "over 1048576 bytes"),
        (b"{}", 0o600, "  read_only_mount: true", "changed or replaced by the agent's own user"),
        (b"{}", 0o600, "  required: [db.password]", "does not have: db.password"),
    ],
)
def test_a_vault_that_must_not_be_used_ends_the_start(
    blabber: Path, content: bytes, mode: int, config: str, reason: str
) -> None:
    """An agent that runs without its secrets, or with everybody's, is worse than none."""
    (blabber / "config.yaml").write_text(f"secrets:\n  expose: []\n{config}\n")
    put_vault(blabber, content, mode)

    agent = start_agent(blabber)

    try:
        assert agent.wait() == 78
    finally:
        agent.kill()
    assert reason in agent.log_text
    assert "Traceback" not in agent.log_text


def test_a_link_out_of_the_mount_ends_the_start(blabber: Path, tmp_path: Path) -> None:
    """Whoever may write a link must not choose which file of the host's is read."""
    vault_file(blabber).rename(tmp_path / "elsewhere.json")
    vault_file(blabber).symlink_to(tmp_path / "elsewhere.json")

    agent = start_agent(blabber)

    try:
        assert agent.wait() == 78
    finally:
        agent.kill()
    assert "leads out of its folder" in agent.log_text

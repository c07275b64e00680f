"""The example `assistant`, with the real SDK against a server that speaks the API.

The server here answers as https://docs.anthropic.com/en/api/messages-streaming describes; the test
tells it by the model's name how to behave.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

from tests.agents import Answer, RunningAgent, copy_example, running_agent, start_agent

KEY = "sk-ant-test-5e1f0c6d9a"
TEXT = ["The sky", " is blue", " because of Rayleigh scattering."]
ERRORS = {
    "rate-limited": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "bad-key": (401, "authentication_error"),
    "bad-request": (400, "invalid_request_error"),
    "broken": (500, "api_error"),
}


class ModelServer:
    """A messages endpoint on a free port, in a thread with an event loop of its own.

    Attributes:
        url: its base URL.
        requests: what was asked, headers and bodies.
        hung_up: set when a client closed a stream that was not at its end.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.hung_up = threading.Event()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/messages", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._is_up.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, body))
        model = body["model"]
        if model == "busy-once" and sum(b["model"] == model for _, b in self.requests) == 1:
            return error_answer("overloaded")
        if model in ERRORS:
            return error_answer(model)
        if body.get("stream"):
            return await self._stream(request, body)
        document = message(body["model"], f"About: {body['messages'][0]['content'][:20]}")
        return web.json_response(document)

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for event in stream_events(body["model"]):
                await response.write(
                    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                )
                if body["model"] == "slow" and event["type"] == "content_block_delta":
                    await asyncio.sleep(60)
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up.set()
            raise
        return response


def error_answer(name: str) -> web.Response:
    """Return an error document; retries are asked for at once."""
    status, kind = ERRORS[name]
    document = {"type": "error", "error": {"type": kind, "message": f"the model is {name}"}}
    headers = {"retry-after-ms": "10", "retry-after": "7", "request-id": "req_1"}
    return web.json_response(document, status=status, headers=headers)


def message(model: str, text: str) -> dict[str, Any]:
    """Return a message as the API does."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 3},
    }


def stream_events(model: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a streamed message."""
    start = message(model, "")
    start |= {"content": [], "stop_reason": None, "usage": {"input_tokens": 11, "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for text in TEXT:
        delta = {"type": "text_delta", "text": text}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
        if model == "breaks-off":
            error = {"type": "overloaded_error", "message": "Overloaded"}
            yield {"type": "error", "error": error}
            return
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """The server in the place of the API."""
    with ModelServer() as running:
        yield running


@pytest.fixture(scope="module")
def assistant(
    server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAgent]:
    """The running agent, with a key in its vault."""
    folder = copy_example("assistant", tmp_path_factory.mktemp("assistant"))
    write_vault(folder, {"anthropic_api_key": KEY, "another": "not for the agent's code"})
    with running_agent(folder, env=environment(server.url)) as agent:
        yield agent
        assert KEY not in agent.log_text


def environment(url: str) -> dict[str, str]:
    """Return what points the SDK at the test's server, and lets it through the sandbox."""
    allow = json.dumps([url.partition("://")[2]])
    return {
        "ANTHROPIC_BASE_URL": url,
        "ASSISTANT_MODEL": "good",
        "AGENT_SANDBOX__NETWORK__ALLOW": allow,
    }


def write_vault(folder: Path, secrets: dict[str, str]) -> None:
    """Write secrets/vault.json as its owner's alone."""
    (folder / "secrets").mkdir(mode=0o700)
    vault = folder / "secrets" / "vault.json"
    vault.touch(mode=0o600)
    vault.write_text(json.dumps(secrets))


def ask(agent: RunningAgent, model: str) -> Answer:
    """Ask on the fast path, without streaming."""
    return agent.post("/v1/capabilities/ask", {"question": "Why?", "model": model})


def test_an_answer_streams_piece_by_piece_and_ends_with_the_usage(
    assistant: RunningAgent, server: ModelServer
) -> None:
    """People read along; programs add up the tokens."""
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]

    events = list(assistant.stream("ask", {"question": "Why is it blue?", "history": history}))

    items = [event.data for event in events if event.name == "event"]
    assert [item["text"] for item in items[:-1]] == TEXT
    assert items[-1] == {
        "type": "usage",
        "model": "good",
        "input_tokens": 11,
        "output_tokens": 9,
        "stop_reason": "end_turn",
    }
    assert any(event.name == "progress" for event in events)
    headers, body = server.requests[-1]
    sent = headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
    assert sent == KEY
    assert [turn["content"] for turn in body["messages"]] == ["Hi", "Hello", "Why is it blue?"]
    assert "system" not in body


@pytest.mark.parametrize(
    ("model", "expected", "tries"),
    [
        ("rate-limited", ("rate_limited", 429, True), 3),
        ("overloaded", ("overloaded", 503, True), 3),
        ("broken", ("model_failed", 502, True), 3),
        ("bad-key", ("key_rejected", 502, False), 1),
        ("bad-request", ("request_rejected", 422, False), 1),
    ],
)
def test_a_failure_of_the_api_says_whether_to_try_again(
    assistant: RunningAgent,
    server: ModelServer,
    model: str,
    expected: tuple[str, int, bool],
    tries: int,
) -> None:
    """Only what may pass is tried again, by the SDK first and then by the caller."""
    answer = ask(assistant, model)

    error = answer.json()["error"]
    assert (error["code"], answer.status, error["retryable"]) == expected
    assert error["message"] == f"the model is {model}"
    assert error["details"]["request_id"] == "req_1"
    assert sum(body["model"] == model for _, body in server.requests) == tries


def test_a_short_overload_is_not_noticed(assistant: RunningAgent) -> None:
    """The SDK's retry is enough."""
    answer = ask(assistant, "busy-once")

    assert answer.status == 200
    assert "".join(item.get("text", "") for item in answer.json()) == "".join(TEXT)


def test_a_stream_that_breaks_off_fails_the_task_after_its_pieces(assistant: RunningAgent) -> None:
    """The API may fail after it answered 200: half an answer must not pass for one."""
    events = list(assistant.stream("ask", {"question": "Why?", "model": "breaks-off"}))

    assert [event.data["text"] for event in events if event.name == "event"] == TEXT[:1]
    task = events[-1].data
    assert (task["state"], task["error"]["code"]) == ("failed", "overloaded")
    assert task["error"]["retryable"] is True


def test_cancelling_a_slow_answer_hangs_up_on_the_model(
    assistant: RunningAgent, server: ModelServer
) -> None:
    """Tokens that nobody reads cost money."""
    stream = assistant.stream("ask", {"question": "Why?", "model": "slow"})
    first = next(event for event in stream if event.name == "event")
    assert not server.hung_up.is_set()

    stream.close()

    assert first.data["text"] == TEXT[0]
    assert server.hung_up.wait(10)
    assert ask(assistant, "good").status == 200


def test_a_batch_of_documents_is_summarised_in_order_with_progress(assistant: RunningAgent) -> None:
    """The documents are worked on in parallel, the answer is in the caller's order."""
    documents = [f"document {number}" for number in range(9)]

    events = list(assistant.stream("summarise", {"documents": documents}))

    task = events[-1].data
    progress = [event.data for event in events if event.name == "progress"]
    assert [item["summary"] for item in task["output"]] == [f"About: {text}" for text in documents]
    assert progress[-1] == {"fraction": 1.0, "message": "9 of 9 documents"}


def test_an_agent_whose_vault_is_not_there_says_so_and_does_not_start(tmp_path: Path) -> None:
    """The first thing that happens to everybody who tries the example."""
    agent = start_agent(copy_example("assistant", tmp_path))

    assert agent.wait() == 78
    assert "anthropic_api_key" in agent.log_text
    assert "secrets/vault.json" in agent.log_text
    assert "Traceback" not in agent.log_text


def test_a_key_that_is_not_exposed_fails_the_task_with_the_way_out(
    server: ModelServer, tmp_path: Path
) -> None:
    """The agent's code gets what config.yaml exposes, whatever else the vault holds."""
    folder = copy_example("assistant", tmp_path)
    write_vault(folder, {"anthropic_api_key": KEY})
    asked_before = len(server.requests)
    env = environment(server.url) | {"AGENT_SECRETS__EXPOSE": "[]"}
    with running_agent(folder, env=env) as agent:
        answer = ask(agent, "good")

    error = answer.json()["error"]
    assert (answer.status, error["code"], error["retryable"]) == (503, "missing_key", False)
    assert "secrets/vault.json" in error["message"]
    assert "secrets.expose" in error["message"]
    assert len(server.requests) == asked_before


def test_an_api_that_cannot_be_reached_is_retryable(tmp_path: Path) -> None:
    """Networks come back."""
    folder = copy_example("assistant", tmp_path)
    write_vault(folder, {"anthropic_api_key": KEY})
    # Port 9 (discard) has no listener on loopback: refused at once.
    with running_agent(folder, env=environment("https://127.0.0.1:9")) as agent:
        started_s = time.monotonic()
        answer = ask(agent, "good")
        took_s = time.monotonic() - started_s

    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == ("unreachable", True)
    assert took_s < 20

"""An LLM agent on the official anthropic SDK: streamed answers and summaries of documents.

The key is the vault's ``anthropic_api_key``. ``ANTHROPIC_BASE_URL`` (read by the SDK) points it at
another server, ``ASSISTANT_MODEL`` at another model.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import anthropic
from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam
from kagent_sdk import Agent, TaskContext, TaskError
from pydantic import BaseModel, Field

KEY = "anthropic_api_key"
DEFAULT_MODEL = "claude-sonnet-5-5"
MAX_RETRIES = 2
"""The SDK's own retries, with backoff, before the task fails."""

REQUEST_TIMEOUT_S = 120.0
"""For the first byte and between two bytes; the task's deadline bounds the whole."""

MAX_PARALLEL = 4
"""Documents at a time: more run into the API's rate limits."""

# What a failure of the API means for the caller: (code, retryable, status of our answer), by the
# error's type (https://docs.anthropic.com/en/api/errors).
FAILURES: dict[str, tuple[str, bool, int]] = {
    "rate_limit_error": ("rate_limited", True, 429),
    "overloaded_error": ("overloaded", True, 503),
    "api_error": ("model_failed", True, 502),
    "timeout_error": ("model_timeout", True, 504),
    "authentication_error": ("key_rejected", False, 502),
    "permission_error": ("key_rejected", False, 502),
    "billing_error": ("key_rejected", False, 502),
    "not_found_error": ("unknown_model", False, 502),
    "request_too_large": ("too_long", False, 413),
    "invalid_request_error": ("request_rejected", False, 422),
}
TYPE_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

agent = Agent()


class Turn(BaseModel):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(min_length=1)


class Question(BaseModel):
    """What to ask, and what was said before."""

    question: str = Field(min_length=1, max_length=500_000)
    history: list[Turn] = Field([], max_length=200, description="Earlier turns, oldest first.")
    system: str | None = Field(None, description="How the model should behave.")
    model: str | None = Field(None, description="A model of the API; ASSISTANT_MODEL if null.")
    max_tokens: int = Field(2048, ge=1, le=64_000, description="The longest answer.")


class TextDelta(BaseModel):
    """The next piece of an answer."""

    type: Literal["text"] = "text"
    text: str


class Usage(BaseModel):
    """The last item: what the answer cost, and why it ended."""

    type: Literal["usage"] = "usage"
    model: str
    input_tokens: int
    output_tokens: int
    stop_reason: str | None


class Summary(BaseModel):
    """A document's summary."""

    summary: str
    input_tokens: int
    output_tokens: int


@agent.capability(on_disconnect="cancel", tags=("llm",))
async def ask(question: Question, ctx: TaskContext) -> AsyncIterator[TextDelta | Usage]:
    """Answer a question: pieces of text as the model writes them, then the usage."""
    turns = [*question.history, Turn(role="user", content=question.question)]
    written_chars = 0
    await ctx.progress(None, "waiting for the model")
    try:
        async with (
            open_client(ctx) as client,
            client.messages.stream(
                model=question.model or default_model(),
                max_tokens=question.max_tokens,
                system=question.system or anthropic.omit,
                messages=[message_of(turn) for turn in turns],
            ) as stream,
        ):
            async for text in stream.text_stream:
                written_chars += len(text)
                await ctx.progress(None, f"{written_chars:,} characters")
                yield TextDelta(text=text)
            message = await stream.get_final_message()
    except anthropic.APIError as exc:
        raise explain(exc) from exc
    await ctx.progress(1.0, "done")
    yield usage_of(message)


@agent.capability(idempotent=True, tags=("llm",))
async def summarise(
    ctx: TaskContext,
    documents: Annotated[list[str], Field(min_length=1, max_length=100)],
    max_words: Annotated[int, Field(ge=5, le=1000)] = 100,
) -> list[Summary]:
    """Summarise documents, each by itself, in their order."""
    places = asyncio.Semaphore(MAX_PARALLEL)
    done = 0

    async def work(client: AsyncAnthropic, document: str) -> Summary:
        nonlocal done
        async with places:
            summary = await summarise_one(client, document, max_words)
        done += 1
        await ctx.progress(done / len(documents), f"{done} of {len(documents)} documents")
        return summary

    try:
        async with open_client(ctx) as client, asyncio.TaskGroup() as group:
            jobs = [group.create_task(work(client, document)) for document in documents]
    except* anthropic.APIError as failures:
        first = failures.exceptions[0]
        assert isinstance(first, anthropic.APIError)
        raise explain(first) from first
    return [job.result() for job in jobs]


async def summarise_one(client: AsyncAnthropic, document: str, max_words: int) -> Summary:
    """Ask the model for one summary."""
    message = await client.messages.create(
        model=default_model(),
        max_tokens=max_words * 4,
        system=f"Summarise the user's document in at most {max_words} words. "
        "Reply with the summary alone.",
        messages=[{"role": "user", "content": document}],
    )
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = usage_of(message)
    return Summary(summary=text, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


def open_client(ctx: TaskContext) -> AsyncAnthropic:
    """Return a client with the vault's key; a context manager that closes its connections.

    Raises:
        TaskError: ``missing_key``.
    """
    if KEY not in ctx.secrets:
        raise TaskError(
            "missing_key",
            f'the agent has no key: put {{"{KEY}": "sk-ant-…"}} into secrets/vault.json (mode '
            f"0600), name {KEY} under secrets.expose in config.yaml and restart the agent",
            status=503,
        )
    return AsyncAnthropic(
        api_key=ctx.secrets[KEY].get_secret_value(),
        max_retries=MAX_RETRIES,
        timeout=REQUEST_TIMEOUT_S,
    )


def message_of(turn: Turn) -> MessageParam:
    """Return a turn as the API wants it."""
    if turn.role == "user":
        return {"role": "user", "content": turn.content}
    return {"role": "assistant", "content": turn.content}


def default_model() -> str:
    """Return the model to use when the caller names none."""
    return os.environ.get("ASSISTANT_MODEL", DEFAULT_MODEL)


def usage_of(message: Message) -> Usage:
    """Return what a message cost."""
    return Usage(
        model=message.model,
        input_tokens=message.usage.input_tokens,
        output_tokens=message.usage.output_tokens,
        stop_reason=message.stop_reason,
    )


def explain(exc: anthropic.APIError) -> TaskError:
    """Translate a failure of the API: what happened, and whether to try again."""
    if isinstance(exc, anthropic.APITimeoutError):
        return TaskError(
            "model_timeout", "the API did not answer in time", retryable=True, status=504
        )
    if isinstance(exc, anthropic.APIStatusError):
        return explain_status(exc)
    if isinstance(exc, anthropic.APIConnectionError):
        return TaskError("unreachable", "the API cannot be reached", retryable=True, status=502)
    return TaskError("model_failed", type(exc).__name__, retryable=True, status=502)


def explain_status(exc: anthropic.APIStatusError) -> TaskError:
    """Translate an error document of the API, which may also come in the middle of a stream."""
    kind, message = read_error(exc)
    code, retryable, status = FAILURES.get(kind, FAILURES["api_error"])
    details: dict[str, str] = {"type": kind}
    for name in ("retry-after", "request-id"):
        if value := exc.response.headers.get(name):
            details[name.replace("-", "_")] = value
    return TaskError(code, message, retryable=retryable, details=details, status=status)


def read_error(exc: anthropic.APIStatusError) -> tuple[str, str]:
    """Return type and message of ``{"type": "error", "error": {"type": …, "message": …}}``."""
    by_status = TYPE_OF_STATUS.get(exc.status_code, "api_error")
    document = exc.body if isinstance(exc.body, dict) else {}
    error = document.get("error")
    if not isinstance(error, dict):
        return by_status, f"the API answered {exc.status_code}"
    return str(error.get("type", by_status)), str(error.get("message", "no message"))


if __name__ == "__main__":
    agent.run()

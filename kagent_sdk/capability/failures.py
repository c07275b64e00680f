"""Why an input or an output was refused, in words and numbers that stay small.

A caller may send eight megabytes that are wrong in four million places: what goes back is bounded in
entries and characters, and never repeats the input.
"""

from __future__ import annotations

from typing import Any, TypedDict

from pydantic import ValidationError

from kagent_sdk.errors import KagentError
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

MAX_DETAILS = 50
"""Entries of ``details``: nobody reads more."""

MAX_LISTABLE = 10_000
"""With more problems than this, none is listed: pydantic lists all or none, at 500 bytes each."""

MAX_LOC_PARTS = 32
MAX_PART_CHARS = 100
MAX_MSG_CHARS = 500


class Detail(TypedDict):
    """One thing that is wrong: where, in words, and pydantic's stable name of it."""

    loc: list[str | int]
    msg: str
    type: str


class _RefusedError(KagentError):
    """What both refusals share."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class InvalidInput(_RefusedError):  # noqa: N818 - the outcome's name, as on the wire
    """The input is not JSON or does not fit the parameters; the caller must change it.

    Attributes:
        failure: ``invalid_json`` (400) or ``invalid_input`` (422, ``details`` lists the problems).
    """


class InvalidOutput(_RefusedError):  # noqa: N818 - as above
    """What the author's function returned or yielded does not fit its return hint.

    Attributes:
        failure: ``invalid_output`` (500).
    """


def refuse_json(reason: str) -> InvalidInput:
    """Return the refusal of bytes that are not JSON, or that no parser takes."""
    message = f"the input is not valid JSON: {shorten(reason)}"
    return InvalidInput(TaskFailure(ErrorCode.INVALID_JSON, message, status=400))


def refuse_input(exc: ValidationError) -> InvalidInput:
    """Return the refusal of an input that pydantic did not take."""
    problems = list_details(exc)
    first = problems[0]
    if first["type"] == "json_invalid" and not first["loc"]:
        return refuse_json(first["msg"].removeprefix("Invalid JSON: "))
    message = f"the input does not fit: {summarise(problems, exc.error_count())}"
    return InvalidInput(TaskFailure(ErrorCode.INVALID_INPUT, message, details=problems, status=422))


def refuse_extreme() -> InvalidInput:
    """Return the refusal of an input that drives a validator over one of Python's limits."""
    problem = Detail(loc=[], msg="Input is nested too deeply or too large", type="too_extreme")
    message = "the input does not fit: it is nested too deeply, or a number or pattern is too large"
    return InvalidInput(
        TaskFailure(ErrorCode.INVALID_INPUT, message, details=[problem], status=422)
    )


def refuse_output(reason: str, problems: list[Detail] | None = None) -> InvalidOutput:
    """Return the refusal of what a function returned."""
    return InvalidOutput(TaskFailure(ErrorCode.INVALID_OUTPUT, reason, details=problems))


def list_details(exc: ValidationError) -> list[Detail]:
    """Return the first problems, bounded; without the input, its context and pydantic's links."""
    count = exc.error_count()
    if count > MAX_LISTABLE:
        return [Detail(loc=[], msg=f"{count} problems: too many to list", type="too_many")]
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    return [_bound(error) for error in errors[:MAX_DETAILS]]


def summarise(problems: list[Detail], count: int) -> str:
    """Return the first problem in one line, and how many there are."""
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    text = shorten(f"{where}: {first['msg']}" if where else first["msg"])
    return text if count == 1 else f"{text} (and {count - 1} more)"


def shorten(text: str) -> str:
    """Return the text, cut to `MAX_MSG_CHARS`."""
    return text if len(text) <= MAX_MSG_CHARS else text[: MAX_MSG_CHARS - 1] + "…"


def _bound(error: Any) -> Detail:
    loc = [part if isinstance(part, int) else part[:MAX_PART_CHARS] for part in error["loc"]]
    return Detail(
        loc=loc[:MAX_LOC_PARTS], msg=shorten(error["msg"]), type=error["type"][:MAX_PART_CHARS]
    )

"""An agent's refusal (a problem document, RFC 9457) as an error of the command line. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kagent_sdk.cli.boundary import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from kagent_sdk.cli.text import clean_line

MAX_REASONS = 50
"""How many things that are wrong with an input are listed."""

_EXIT_CODES = {
    HTTPStatus.BAD_REQUEST: EXIT_USAGE,
    HTTPStatus.UNAUTHORIZED: EXIT_UNREACHABLE,
    HTTPStatus.FORBIDDEN: EXIT_UNREACHABLE,
    HTTPStatus.NOT_FOUND: EXIT_USAGE,
    HTTPStatus.CONFLICT: EXIT_USAGE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: EXIT_USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: EXIT_USAGE,
}


class ProblemError(CommandError):
    """An agent answered with an error.

    Attributes:
        status: the HTTP status.
        problem: the whole document; empty when the answer was none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        problem: dict[str, Any],
        exit_code: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        code = problem.get("code")
        super().__init__(
            message,
            exit_code=exit_code,
            code=code if isinstance(code, str) else f"http_{status}",
            details=problem or None,
            notes=notes,
        )
        self.status = status
        self.problem = problem

    @property
    def is_invalid_input(self) -> bool:
        """Whether the input of a call does not fit its capability."""
        return self.code == "invalid_input"


def problem_error(status: int, problem: dict[str, Any], retry_after: str | None) -> ProblemError:
    """Return the error for an answer over 399.

    Args:
        status: of the answer.
        problem: its body; empty when it was no JSON object.
        retry_after: its header, in seconds.
    """
    return ProblemError(
        _message(status, problem, retry_after),
        status=status,
        problem=problem,
        exit_code=_EXIT_CODES.get(HTTPStatus(status), EXIT_FAILED)
        if _known(status)
        else EXIT_FAILED,
        notes=tuple(f"  {reason}" for reason in input_reasons(problem)),
    )


def input_reasons(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with an input as lines of ``where: what``.

    Takes a problem document or a task's error: the reasons are a list of ``{loc, msg, type}``.
    """
    error = document.get("error")
    candidates = (
        document.get("details"),
        error.get("details") if isinstance(error, dict) else None,
        document.get("errors"),
    )
    reasons = next((found for found in candidates if isinstance(found, list)), [])
    lines = [_reason(reason) for reason in reasons[:MAX_REASONS] if isinstance(reason, dict)]
    if len(reasons) > MAX_REASONS:
        lines.append(f"and {len(reasons) - MAX_REASONS} more")
    return lines


def _reason(reason: dict[str, Any]) -> str:
    where = reason.get("loc")
    parts = where if isinstance(where, list) else []
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return clean_line(f"{path or 'input'}: {reason.get('msg', 'is not valid')}")


def _message(status: int, problem: dict[str, Any], retry_after: str | None) -> str:
    """The agent's own sentence, with a way out for someone at a command line."""
    said = _said(status, problem)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return f"{_first(said)}; name the file that holds it with --token-file FILE"
    if problem.get("code") == "unknown_capability" and not problem.get("nearest"):
        return f"{_first(said)}; see what there is: kos-agent capabilities"
    if retry_after and retry_after.isascii() and retry_after.isdecimal():
        return f"{said.removesuffix('; try again later')}; try again in {int(retry_after[:9])} s"
    return said


def _said(status: int, problem: dict[str, Any]) -> str:
    said = problem.get("detail") or problem.get("title")
    if isinstance(said, str) and said:
        return clean_line(said).rstrip(".")
    phrase = f" ({HTTPStatus(status).phrase.lower()})" if _known(status) else ""
    return f"the agent answered with status {status}{phrase}"


def _first(said: str) -> str:
    """What happened, without the way out for someone who writes HTTP."""
    return said.partition(";")[0].partition(":")[0]


def _known(status: int) -> bool:
    return status in HTTPStatus.__members__.values()

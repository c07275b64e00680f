"""What callers write behind the question mark, for agents and for the orchestrator."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp.web_request import BaseRequest

from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import invalid_query
from kagent_sdk.protocol.tasks import TaskState

# As JSON writes them. Not all that float() takes: no blanks, underscores, NaN or other digits.
_is_number = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,3})?").fullmatch


def read_query(request: BaseRequest, known: tuple[str, ...]) -> Mapping[str, str]:
    """Return a request's query, of which every key is known and given once.

    Raises:
        RequestError: it is not so.
    """
    query = request.query
    for name in query:
        if name not in known:
            raise RequestError(invalid_query(name, "is not known here", known))
        if len(query.getall(name)) > 1:
            raise RequestError(invalid_query(name, "is given more than once"))
    return query


def parse_number(name: str, value: str | None, default: float, low: float, high: float) -> float:
    """Return a number of a query within its bounds; a whole one, unless the name ends in ``_s``.

    Raises:
        RequestError: it is none.
    """
    if value is None:
        return default
    number = float(value) if _is_number(value) else low - 1
    if not low <= number <= high or not (name.endswith("_s") or number.is_integer()):
        raise RequestError(invalid_query(name, f"is not a number from {low:g} to {high:g}"))
    return number


def parse_state(value: str | None) -> TaskState | None:
    """Return the state that a query asks for; None when it asks for none.

    Raises:
        RequestError: there is no such state.
    """
    if value is None:
        return None
    try:
        return TaskState(value)
    except ValueError:
        states = ", ".join(TaskState)
        raise RequestError(invalid_query("state", f"is not one of {states}")) from None

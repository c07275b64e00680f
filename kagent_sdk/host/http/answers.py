"""Responses: JSON bytes and problem documents."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from kagent_sdk.protocol.problem import PROBLEM_CONTENT_TYPE, Problem

JSON_HEADERS = {"Content-Type": "application/json"}


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer with a JSON body."""
    if headers is None:
        return web.Response(body=body, status=status, headers=JSON_HEADERS)
    return web.Response(body=body, status=status, headers={**JSON_HEADERS, **headers})


def problem_response(problem: Problem) -> web.Response:
    """Return a problem document as an answer."""
    headers = {"Content-Type": PROBLEM_CONTENT_TYPE, **problem.headers}
    return web.Response(body=problem.to_bytes(), status=problem.status, headers=headers)

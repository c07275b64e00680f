"""A small router: method and path to a handler, in less than a microsecond.

Paths without parameters, or with one at the end, are one look-up in a dictionary. The others are
split at the slashes and walked down a tree. What follows a node is either words or a parameter,
never both: so a path has one way to match, and no request can make the router go back.
"""

from __future__ import annotations

import re
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import method_not_allowed, no_route

H = TypeVar("H")

_is_parameter = re.compile(r"\{[a-z_]+\}").fullmatch
_is_word = re.compile(r"[A-Za-z0-9._~-]+").fullmatch
_find_control = re.compile(r"[\x00-\x1f\x7f/]").search


class Match(NamedTuple, Generic[H]):
    """A route that serves a request.

    Attributes:
        handler: what was registered.
        route: the path as it was registered: a label with few values.
        params: the path's parameters in their order, decoded.
    """

    handler: H
    route: str
    params: tuple[str, ...]


class _Node(Generic[H]):
    """What can follow a part of a path."""

    __slots__ = ("allow", "child", "handlers", "route", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node[H]] = {}
        self.child: _Node[H] | None = None
        self.handlers: dict[str, H] = {}
        self.route = ""
        self.allow = ""

    def next(self, segment: str) -> _Node[H]:
        """Return the node of one more segment of a route, new or known.

        Raises:
            ValueError: it cannot stand there.
        """
        if _is_parameter(segment):
            if self.words:
                raise ValueError(f"parameter {segment} stands beside a word")
            self.child = self.child or _Node()
            return self.child
        if self.child is not None or not _is_word(segment):
            raise ValueError(f"segment {segment!r} is no word, or stands beside a parameter")
        return self.words.setdefault(segment, _Node())

    def register(self, method: str, route: str, handler: H) -> None:
        """Add a handler; one of GET serves HEAD too.

        Raises:
            ValueError: there is one already.
        """
        if method in self.handlers or self.route not in {"", route}:
            raise ValueError(f"{method} {route} is in the way of another route")
        self.handlers[method] = handler
        if method == "GET":
            self.handlers["HEAD"] = handler
        self.route = route
        self.allow = ", ".join(sorted(self.handlers))


class Router(Generic[H]):
    """Routes, added once at the start."""

    __slots__ = ("_root", "_static", "_tailed")

    def __init__(self) -> None:
        self._root: _Node[H] = _Node()
        self._static: dict[tuple[str, str], Match[H]] = {}
        self._tailed: dict[tuple[str, str], tuple[H, str]] = {}

    def add(self, method: str, route: str, handler: H) -> None:
        """Add a route such as ``GET /v1/tasks/{id}``.

        Raises:
            ValueError: it is malformed, or another route is in its way.
        """
        if not route.startswith("/"):
            raise ValueError(f"route {route!r} must begin with a slash")
        node = self._root
        for segment in route[1:].split("/"):
            node = node.next(segment)
        node.register(method, route, handler)
        head = route.rpartition("/")[0]
        for served, registered in node.handlers.items():
            if "{" not in route:
                self._static[served, route] = Match(registered, route, ())
            elif "{" not in head:
                self._tailed[served, head] = (registered, route)

    def match(self, method: str, target: str) -> Match[H]:
        """Return the route that serves a request.

        Args:
            method: as it was sent, in capitals.
            target: as it was sent, percent-encoded; a query is ignored.

        Raises:
            RequestError: 404, or 405 with the header Allow.
        """
        path = target if "?" not in target else target.partition("?")[0]
        match = self._static.get((method, path))
        if match is not None:
            return match
        head, _, tail = path.rpartition("/")
        tailed = self._tailed.get((method, head))
        if tailed is not None and tail and "%" not in tail:
            return Match(tailed[0], tailed[1], (tail,))
        return self._walk(method, path)

    def _walk(self, method: str, path: str) -> Match[H]:
        node = self._root
        params: list[str] = []
        for segment in path[1:].split("/") if path.startswith("/") else ():
            word = segment if "%" not in segment else _decode(segment)
            following = node.words.get(word)
            if following is None and node.child is not None and word:
                params.append(word)
                following = node.child
            if following is None:
                raise RequestError(no_route())
            node = following
        handler = node.handlers.get(method)
        if handler is not None:
            return Match(handler, node.route, tuple(params))
        raise RequestError(method_not_allowed(node.allow) if node.handlers else no_route())


def _decode(segment: str) -> str:
    """Decode one segment, once; empty, which matches nothing, when it hides a slash or the like."""
    try:
        word = unquote_to_bytes(segment).decode()
    except UnicodeError:
        return ""
    return "" if _find_control(word) else word

"""Hypothesis strategies for requests that no decent client would send."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.integration.wire import Header, build

ROUNDS = 20 if os.environ.get("KOS_TEST_LONG") == "1" else 1
"""How often the long run of the tests tries as many examples as a plain one."""

POST_ROUTES = (
    "/v1/capabilities/echo",
    "/v1/capabilities/digest",
    "/v1/capabilities/count",
    "/v1/tasks",
    "/v1/tasks/known/cancel",
    "/v1/snapshots",
)
"""Not ``/v1/shutdown`` and ``/v1/reload``: they do what they say."""

GET_ROUTES = (
    "/healthz",
    "/readyz",
    "/status",
    "/metrics",
    "/openapi.json",
    "/v1/capabilities",
    "/v1/tasks",
    "/v1/tasks/known",
    "/v1/tasks/known/events",
)

GOOD_BODIES = (
    b'{"text": "h\\u00e9 \xc3\xa9"}',
    b'{"document": {"text": "a b c"}}',
    b'{"n": 3}',
    b'{"capability": "echo", "input": {"text": "x"}}',
    b'{"id": "known", "capability": "echo", "input": {"text": "known"}, "metadata": {"a": 1}}',
)
OVER_THE_LIMIT = 1_100_000
"""Bytes; the agents under test here take a mebibyte."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

_ENVELOPE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.text(max_size=140) | st.just("known") | json_values,
    "capability": st.sampled_from(["echo", "count", "ecco", "", "e" * 65]) | json_values,
    "input": json_values,
    "timeout_s": st.floats() | st.sampled_from([5e-324, 1e308, -1, 0, True]) | json_values,
    "metadata": json_values,
    "surprise": json_values,
}


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Bodies of ``POST /v1/tasks`` in which any member may be anything, and may come twice."""
    members = []
    for key in draw(st.lists(st.sampled_from([*_ENVELOPE_VALUES]), max_size=7)):
        # Python writes NaN and Infinity, which are no JSON.
        value = json.dumps(draw(_ENVELOPE_VALUES[key]), ensure_ascii=draw(st.booleans()))
        members.append(f"{json.dumps(key)}: {value}")
    return f"{{{', '.join(members)}}}".encode("utf-8", "surrogatepass")


@st.composite
def truncated(draw: st.DrawFn) -> bytes:
    """Good bodies, cut short."""
    body = draw(st.sampled_from(GOOD_BODIES))
    return body[: draw(st.integers(0, len(body) - 1))]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Good bodies with some bytes in their middle replaced."""
    body = draw(st.sampled_from(GOOD_BODIES))
    start = draw(st.integers(0, len(body)))
    stop = draw(st.integers(start, len(body)))
    return body[:start] + draw(st.binary(max_size=8)) + body[stop:]


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """Towers of brackets, closed or not, alone or as an input or as metadata."""
    depth = draw(st.sampled_from([10, 198, 200, 300, 5_000, 100_000]))
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
    tower = opening * depth + b"1"
    if draw(st.booleans()):
        tower += closing * depth
    frame = draw(
        st.sampled_from(
            [
                b"%b",
                b'{"text": %b}',
                b'{"capability": "echo", "input": %b}',
                b'{"capability": "echo", "input": {"text": "x"}, "metadata": %b}',
            ]
        )
    )
    return frame % tower


STRANGE_BODIES = (
    b"",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "\\ud800"}',
    b'{"text": "\xc0\x80"}',
    b'{"text": "a", "text": "b"}',
    b'{"capability": "echo", "capability": "nap", "input": {}, "input": {"text": "x"}}',
    b'{"capability": "echo", "input": {"text": "a", "text": 1}}',
    b'{"n": NaN}',
    b'{"n": -Infinity}',
    b'{"n": 1e400}',
    b'{"n": ' + b"9" * 5000 + b"}",
    b'{"n": -' + b"1" * 300 + b"}",
    b'{"n": 0.' + b"0" * 5000 + b"1}",
    b'{"capability": "count", "input": {"n": 99999999999999999999}}',
    b'{"capability": "echo", "timeout_s": ' + b"1" * 500 + b"}",
    b'{"capability": "echo", "input": {"text": "x"}, "metadata": {"a": "' + b"m" * 20_000 + b'"}}',
    b'{"' + b"k" * 100_000 + b'": 1}',
    b"[" + b"{}," * 50_000 + b"{}]",
    b'{"text": "' + b"\\u0000" * 10_000 + b'"}',
    b'{"text": "' + b"x" * OVER_THE_LIMIT + b'"}',
    b'"' + b"\\" * 99_999,
)

bodies = st.one_of(
    st.sampled_from(GOOD_BODIES),
    st.sampled_from(STRANGE_BODIES),
    truncated(),
    mutated(),
    nested(),
    envelopes(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=100),
)

_LONG = b"x" * 4000
_TRACE = b"-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_NOT_UTF8 = b"01" + _TRACE + b"-\xff"
_NASTY: dict[str, tuple[bytes, ...]] = {
    "Accept": (
        b"text/event-stream",
        b"text/event-stream;q=0.5, application/json;q=9",
        b'text/*;q="\\"',
        b',,;;==,"\\',
        b'"' * 5000,
        b"text/event-stream;" * 200,
    ),
    "Accept-Encoding": (b"gzip", b"*;q=0"),
    "Authorization": (b"Bearer x", b"Bearer " + _LONG, b"Basic \xff"),
    "Connection": (b"Upgrade", b"keep-alive, close", b"Content-Length"),
    "Content-Encoding": (b"gzip", b"identity", b""),
    "Content-Type": (b"text/plain", b"application/json; charset=utf-16", b"a/b;" * 500, b"\xff"),
    "Expect": (b"100-continue", b"200-ok"),
    "Idempotency-Key": (b"known", b'"known"', b'"', b'""', b"a b", b"caf\xc3\xa9", b"k" * 129),
    "Last-Event-ID": (b"0", b"-1", b"1.5", b"9" * 15, b"9" * 16, b"\xd9\xa3", b" 1"),
    "Origin": (b"http://evil.example", b"null"),
    "Host": (b"evil.example", b"[::1", b""),
    "Prefer": (
        b"respond-async",
        b"wait=0",
        b"wait=-1",
        b"wait=\xd9\xa3",
        b"wait=99999999999999999999999",
        b"respond-async, wait=1, wait=2",
        b'wait="1"; a="\\',
    ),
    "Range": (b"bytes=0-", b"bytes=9-1"),
    "Upgrade": (b"websocket", b"h2c"),
    "X-Forwarded-For": (b"\xff", b"127.0.0.1"),
    "traceparent": (
        b"00" + _TRACE,
        b"01" + _TRACE + b"-" + _LONG,
        TRACE_NOT_UTF8,
        b"ff" + _TRACE,
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
    ),
}
_ANY_VALUE = (b"", b"0", b"-1", b"known", b"../../etc/passwd", b"\xff\xfe\x80", _LONG, b"x" * 9000)
_RAW_VALUES = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\r\n\0"))


@st.composite
def _pairs(draw: st.DrawFn) -> Header:
    name = draw(st.sampled_from([*_NASTY]))
    nasty = st.sampled_from(_NASTY[name])
    return name, draw(st.one_of(nasty, nasty, st.sampled_from(_ANY_VALUE), _RAW_VALUES))


headers: st.SearchStrategy[list[Header]] = st.lists(_pairs(), max_size=5)

_SEGMENTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "%2e%2e", "%00", "%0a", "%", "%zz", "%ff", "%2f", "known", "echo", "tasks"]
    ),
    st.sampled_from(["v1", "capabilities", "events", "cancel", "healthz", "a" * 300, "~", "*"]),
    st.text(max_size=10).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
)
_QUERIES = st.one_of(
    st.just(""),
    st.sampled_from(
        [
            "?",
            "?state=failed&limit=1",
            "?limit=0",
            "?limit=1e3",
            "?limit=99999999999999999999999",
            "?limit=%D9%A3",
            "?after=%00",
            "?after=nobody&state=%ff",
            "?wait_s=nan",
            "?wait_s=-0.0",
            "?wait_s=inf",
            "?wait_s=1&wait_s=2",
            "?&&&==&",
            "?capability=" + "c" * 5000,
            "?a" * 1000,
        ]
    ),
    st.text(alphabet="abc=&%;?#[]1'", max_size=20).map(lambda text: f"?{text}"),
)


@st.composite
def targets(draw: st.DrawFn) -> str:
    """Request targets: paths that nearly exist, and some that are no path at all."""
    base = draw(
        st.one_of(
            st.sampled_from([*GET_ROUTES, *POST_ROUTES]),
            st.lists(_SEGMENTS, max_size=6).map(lambda segments: "/" + "/".join(segments)),
            st.sampled_from(["*", "//", "http://127.0.0.1/healthz", "http://", "127.0.0.1:80"]),
        )
    )
    return base + draw(_QUERIES)


methods = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "get"]
) | st.text(alphabet="ABCXYZ-_", min_size=1, max_size=12)


CHUNKED = (b"Transfer-Encoding: chunked",)
_FRAMINGS: tuple[tuple[bytes, ...], ...] = (
    CHUNKED,
    (b"Transfer-Encoding: CHUNKED",),
    (b"Transfer-Encoding: gzip, chunked",),
    (b"Transfer-Encoding: chunked, identity",),
    (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    (b"Transfer-Encoding : chunked",),
    (b"Transfer-Encoding: \x0bchunked",),
    (b"Content-Length: 0",),
    (b"Content-Length: 5",),
    (b"Content-Length: 1000000",),
    (b"Content-Length: 99999999999999999999",),
    (b"Content-Length: -5",),
    (b"Content-Length: +5",),
    (b"Content-Length: 5, 5",),
    (b"Content-Length: 5", b"Content-Length: 6"),
    (b"Content-Length: 0x10",),
    (b"Content-Length: five",),
    (),
)
_CHUNKS = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b'F\r\n{"text": "abc"}\r\n0\r\n\r\n',
    b"5\r\nhel",
    b"5;ext=" + b"e" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\nx",
    b"-1\r\nx\r\n",
    b"zz\r\n",
    b"5\r\nhelloXX\r\n0\r\n\r\n",
    b"0\r\nTrailer: a\r\n\r\n",
    b"0\r\n" + b"T: b\r\n" * 500,
    b"1\r\na\r\n" * 2000,
    b"",
)


@st.composite
def misframed(draw: st.DrawFn) -> bytes:
    """Requests whose head lies about the length of the body, or whose chunks are broken."""
    target = draw(st.sampled_from(POST_ROUTES[:4]))
    framing = draw(st.sampled_from(_FRAMINGS))
    body = draw(st.sampled_from(_CHUNKS) | st.sampled_from(GOOD_BODIES) | st.binary(max_size=40))
    head = [
        b"POST %b HTTP/1.1" % target.encode(),
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Connection: close",
        *framing,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


_HEADS = (
    b"",
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"GET  /  HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n: empty\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost\x00: a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /healthz\r\n",
)

garbage = st.sampled_from(_HEADS) | st.binary(max_size=300)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests to routes that start, follow or end something; most are in order."""
    if draw(st.booleans()):
        accept: list[Header] = [("Accept", "text/event-stream")] if draw(st.booleans()) else []
        body = draw(st.sampled_from(GOOD_BODIES) | st.sampled_from(SLOW_BODIES))
        return build("POST", draw(st.sampled_from(SLOW_ROUTES)), body, accept)
    return build("GET", draw(st.sampled_from(GET_ROUTES)))


SLOW_ROUTES = ("/v1/capabilities/nap", "/v1/capabilities/count", "/v1/tasks")
SLOW_BODIES = (
    b'{"seconds": 0.05}',
    b'{"n": 500, "size": 5000}',
    b'{"n": 100, "pause_s": 0.001}',
    b'{"capability": "nap", "input": {"seconds": 0.05}}',
    b'{"capability": "count", "input": {"n": 500, "size": 5000}}',
)

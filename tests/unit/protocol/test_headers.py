"""Request headers, task ids and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.protocol import headers
from kagent_sdk.protocol.headers import (
    HeaderError,
    Preference,
    TaskIds,
    Trace,
    accepts_events,
    format_time,
    is_task_id,
    parse_bearer,
    parse_idempotency_key,
    parse_last_event_id,
    parse_prefer,
    parse_traceparent,
    to_base32,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


@pytest.mark.parametrize(
    "text", ["a", "order-1", "A.b_c:d-9", "-", ":", "a..", "0" * 128, "a" + "." * 127]
)
def test_task_ids_that_are_taken(text: str) -> None:
    """Ids of other systems should fit without translation."""
    assert is_task_id(text)
    assert parse_idempotency_key(text) == text
    assert parse_idempotency_key(f'"{text}"') == text
    assert re.search(headers.TASK_ID_PATTERN, text)
    assert re.search(headers.IDEMPOTENCY_KEY_PATTERN, f'"{text}"')


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a b", "a/b", "a\n", "é", "a" * 129, '"a', 'a"', '"', '""']
)
def test_task_ids_that_are_refused(text: str) -> None:
    """An id stands in a path, a header, a log line and a RUN frame; a slash must not."""
    assert not is_task_id(text)
    with pytest.raises(HeaderError) as caught:
        parse_idempotency_key(text)
    assert caught.value.problem.status == 400
    assert "Idempotency-Key" in caught.value.problem.detail


def test_no_idempotency_key_is_none() -> None:
    """Most calls have none."""
    assert parse_idempotency_key(None) is None


@pytest.mark.parametrize(("value", "number"), [(None, None), ("", None), ("0", 0), ("17", 17)])
def test_last_event_id_that_is_understood(value: str | None, number: int | None) -> None:
    """A browser sends it by itself when it reconnects; an empty one means none."""
    assert parse_last_event_id(value) == number
    assert value is None or re.search(headers.LAST_EVENT_ID_PATTERN, value)


@pytest.mark.parametrize("value", ["-1", "1.5", "x", " 1", "١", "9" * 16])
def test_last_event_id_that_is_not_ours_is_refused(value: str) -> None:
    """Replaying from the beginning instead would hand every item to the client twice."""
    with pytest.raises(HeaderError, match="Last-Event-ID"):
        parse_last_event_id(value)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc.DEF_1~2+3/4-5==", "abc.DEF_1~2+3/4-5=="),
        ("bearer   abc", "abc"),
        ("BEARER abc", "abc"),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer a b", None),
        ("Bearer a=b", None),
        ("Bearer é", None),
        ("Bearer\tabc", None),
        ("Basic YTpi", None),
        ("xBearer abc", None),
    ],
)
def test_bearer_tokens(value: str | None, token: str | None) -> None:
    """RFC 6750: the scheme in any case, one token of the characters that it allows."""
    assert parse_bearer(value) == token


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/*", False),
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0.000", False),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream", False),
        ("application/json;q=0.5, text/event-stream", True),
        ("application/json, text/event-stream;q=0.9", False),
        ("application/json;q=0, text/event-stream;q=0.1", True),
        ('application/json;x="a,text/event-stream"', False),
        ("garbage, text/event-stream", True),
        ("application/event-stream", False),
        ("text/event-stream;q=high", True),
        (",,text/event-stream", True),
    ],
)
def test_who_gets_a_stream(accept: str | None, is_stream: bool) -> None:
    """A client that did not ask for a stream cannot read one; MCP-like clients name both."""
    assert accepts_events(accept) is is_stream


@pytest.mark.parametrize(
    ("value", "preference", "applied"),
    [
        (None, Preference(), ""),
        ("", Preference(), ""),
        ("respond-async", Preference(respond_async=True), "respond-async"),
        ("Respond-Async", Preference(respond_async=True), "respond-async"),
        ("wait=10", Preference(wait_s=10), "wait=10"),
        ('wait="10"', Preference(wait_s=10), "wait=10"),
        ("wait = 0", Preference(wait_s=0), "wait=0"),
        ("wait=999999999999", Preference(wait_s=3600), "wait=3600"),
        ("respond-async, wait=5", Preference(True, 5), "respond-async, wait=5"),  # noqa: FBT003
        ("wait=5; foo=bar, respond-async;x", Preference(True, 5), "respond-async, wait=5"),  # noqa: FBT003
        ("wait=5, wait=9", Preference(wait_s=5), "wait=5"),
        ("return=minimal, handling=lenient", Preference(), ""),
        ('foo="a, wait=1"', Preference(), ""),
        ("=, ;;, é", Preference(), ""),
    ],
)
def test_preferences(value: str | None, preference: Preference, applied: str) -> None:
    """RFC 7240: unknown wishes are ignored, of two the first counts."""
    assert parse_prefer(value) == preference
    assert parse_prefer(value).applied == applied


@pytest.mark.parametrize("value", ["wait", "wait=", "wait=soon", "wait=-1", "wait=1.5", "wait=٣"])
def test_a_wait_that_is_no_number_is_refused(value: str) -> None:
    """Ignoring it would make a client wait for as long as the task takes."""
    with pytest.raises(HeaderError, match="wait=10"):
        parse_prefer(value)


@given(st.text(max_size=60))
def test_no_header_value_causes_anything_but_an_answer(value: str) -> None:
    """Header values come from anywhere."""
    accepts_events(value + "text/event-stream")
    parse_bearer(value)
    parse_traceparent(value)
    for parse in (parse_prefer, parse_idempotency_key, parse_last_event_id):
        try:
            parse(value)
        except HeaderError as exc:
            assert exc.problem.status == 400  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE_ID}-{PARENT_ID}-00", 0),
        (f"00-{TRACE_ID}-{PARENT_ID}-01", 1),
        (f"00-{TRACE_ID}-{PARENT_ID}-ff", 3),
        (f"01-{TRACE_ID}-{PARENT_ID}-01", 1),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-brings", 1),
    ],
)
def test_traceparents_that_are_followed(value: str, flags: int) -> None:
    """W3C Trace Context, 3.2: a later version is read as far as it is known."""
    assert parse_traceparent(value) == Trace(TRACE_ID, PARENT_ID, flags)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID}-{PARENT_ID}-01-extra",
        f"00-{TRACE_ID}-{PARENT_ID}-01.",
        f"01-{TRACE_ID}-{PARENT_ID}-01.extra",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-0g",
        f" 00-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-01\n",
    ],
)
def test_traceparents_that_are_ignored(value: str | None) -> None:
    """A malformed one must not fail the request, nor reach a log line or a RUN frame."""
    assert parse_traceparent(value) is None


def test_generated_ids_are_valid_unique_and_in_order() -> None:
    """They sort in logs and lists, also across a block of 1024 and a restart."""
    first, second = TaskIds(1_700_000_000.9, b"\xff" * 8), TaskIds(1_700_000_001, b"\0" * 8)
    made = [first.new() for _ in range(3000)] + [second.new()]

    assert made == sorted(set(made))
    assert all(is_task_id(each) for each in made)
    assert {len(each) for each in made} == {27}


def test_ids_of_another_process_cannot_be_guessed() -> None:
    """60 bits of it are random."""
    same_second = [TaskIds(1_700_000_000, bytes([n]) * 8).new()[7:19] for n in (1, 2)]

    assert same_second[0] != same_second[1]
    assert len(same_second[0]) == 12


@given(st.integers(0, 2**35 - 1), st.integers(0, 2**35 - 1))
def test_base32_sorts_like_the_numbers(one: int, other: int) -> None:
    """The order of ids rests on it."""
    assert (to_base32(one, 7) < to_base32(other, 7)) == (one < other)


@given(st.floats(0, 4e9))
def test_times_are_rfc_3339_and_exact_to_the_microsecond(at_s: float) -> None:
    """Times are compared and subtracted by programs; a rounding to 60 seconds would break them."""
    text = format_time(at_s)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert abs(datetime.fromisoformat(text).timestamp() - at_s) < 1e-6


def test_a_time_just_below_a_second_is_carried_over() -> None:
    """Rounding 0.9999999 s up must not give a million microseconds."""
    assert format_time(59.999_999_9) == "1970-01-01T00:01:00.000000Z"
    assert format_time(datetime(2026, 11, 23, 1, 2, 3, 4, UTC).timestamp()) == (
        "2026-11-23T01:02:03.000004Z"
    )


def test_a_trace_is_told_on_as_it_came() -> None:
    """What a task calls belongs to the same trace."""
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    trace = parse_traceparent(header)

    assert trace is not None
    assert trace.traceparent == header

"""Payloads survive the way there, and a malformed one is a protocol error and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.config.orchestrator import LABEL_PATTERN
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.messages import (
    COUNT,
    MAX_CALL_HEAD_BYTES,
    MAX_CALL_LABELS,
    MAX_DETAILS_DEPTH,
    MAX_MESSAGE_CHARS,
    RUN_HEAD,
    SECONDS,
    CallHead,
    decode_call,
    decode_count,
    decode_failure,
    decode_object,
    decode_progress,
    decode_run,
    encode_call,
    encode_failure,
    encode_progress,
    encode_run,
    is_label,
)
from kagent_sdk.protocol.tasks import TaskFailure

TASK_IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


def nest(depth: int) -> list[Any]:
    """Return a list in a list and so on."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(
    index=st.integers(0, 0xFFFF),
    attempt=st.integers(0, 0xFFFF),
    timeout_s=st.floats(min_value=0, allow_nan=False),
    task_id=TASK_IDS,
    traceparent=st.just("") | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    metadata=st.just(b"") | st.just(b'{"a":\n1}'),
    raw=st.binary(),
)
def test_a_run_arrives_as_it_was_sent(**values: Any) -> None:
    """Inputs pass as raw bytes, whatever they are; metadata may have line breaks."""
    run = decode_run(
        encode_run(
            values["index"],
            values["attempt"],
            values["timeout_s"],
            task_id=values["task_id"],
            traceparent=values["traceparent"],
            metadata=values["metadata"],
            input=values["raw"],
        )
    )

    assert (run.capability_index, run.attempt) == (values["index"], values["attempt"])
    assert (run.timeout_s, run.task_id) == (values["timeout_s"], values["task_id"])
    assert (run.traceparent, run.metadata) == (values["traceparent"], values["metadata"])
    assert run.input == values["raw"]


def test_no_deadline_travels_as_infinity() -> None:
    """Not every task has one."""
    payload = encode_run(0, 1, math.inf, task_id="a", traceparent="", metadata=b"", input=b"")

    assert decode_run(payload).timeout_s == math.inf


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "unpack_from requires a buffer"),
        (RUN_HEAD.pack(0, 1, 1.0, 9) + b"a\nb\nc", "text is cut short"),
        (RUN_HEAD.pack(0, 1, 1.0, 3) + b"a\nb", "not enough values"),
        (RUN_HEAD.pack(0, 1, 1.0, 4) + b"\xff\n\n{", "can't decode byte"),
    ],
)
def test_a_malformed_run_is_a_protocol_error(payload: bytes, reason: str) -> None:
    """The worker then closes, and the host starts another."""
    with pytest.raises(ProtocolError, match=f"malformed RUN frame: .*{reason}"):
        decode_run(payload)


FAILURES = st.builds(
    TaskFailure,
    code=st.text(st.characters(codec="utf-8"), max_size=100),
    message=st.text(st.characters(codec="utf-8")),
    retryable=st.booleans(),
    details=JSON,
    status=st.integers(400, 599),
)


@given(FAILURES)
def test_a_failure_arrives_as_it_was_sent(failure: TaskFailure) -> None:
    """Callers act on its code and details."""
    assert decode_failure(encode_failure(failure)) == failure


def test_a_failure_shows_its_four_public_members() -> None:
    """The status is HTTP's business."""
    assert TaskFailure("a", "b", retryable=True, details=[1], status=418).as_dict() == {
        "code": "a",
        "message": "b",
        "retryable": True,
        "details": [1],
    }


def test_details_that_are_not_json_become_their_text() -> None:
    """A failure must arrive, whatever its author put into it."""
    failure = TaskFailure("a", "b", details={"x": {1, 2}, (1,): 2})

    assert decode_failure(encode_failure(failure)).details == {"x": "{1, 2}"}


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    """A file name that is not UTF-8 must not make the answer unreadable."""
    payload = encode_failure(TaskFailure("a", "no file \udcff", details=["\ud800ä"]))

    assert json.loads(payload)["message"] == "no file ?"
    assert json.loads(payload)["details"] == ["?ä"]


def test_code_and_message_are_cut() -> None:
    """A worker cannot make the host keep megabytes."""
    document = {"code": "c" * 999, "message": "m" * 99_999, "retryable": False, "status": 500}
    failure = decode_failure(json.dumps(document).encode())

    assert len(failure.code) == 100
    assert len(failure.message) == MAX_MESSAGE_CHARS


GOOD = {"code": "a", "message": "b", "retryable": False, "details": None, "status": 500}


def test_a_call_of_an_older_worker_is_read() -> None:
    """Members that came later have a meaning when they are not there."""
    read, _ = decode_call(b'{"agent": "a", "capability": "c"}\n1')

    assert read == CallHead("a", "c", None, None, task=0, labels={}, stream=False, id=None)


@pytest.mark.parametrize(
    "text", ["a", "A.b_c-9", "x" * 63, "", "-a", "a-", "x" * 64, "a b", "ä", "a\n"]
)
def test_labels_of_a_call_are_those_of_the_configuration(text: str) -> None:
    """What an agent cannot have, no call can ask for."""
    assert bool(is_label(text)) == bool(re.fullmatch(LABEL_PATTERN, text))


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\0\0\0\0\1"])
def test_a_malformed_count_is_a_protocol_error(payload: bytes) -> None:
    """Nothing that the worker acknowledges is trusted."""
    assert decode_count(b"\0\0\1\0") == 256
    with pytest.raises(ProtocolError, match="malformed count"):
        decode_count(payload)


@pytest.mark.parametrize(
    "change",
    [
        {"code": 1},
        {"code": None},
        {"message": None},
        {"retryable": 1},
        {"status": True},
        {"status": 500.0},
        {"status": 399},
        {"status": 600},
        {"details": nest(MAX_DETAILS_DEPTH + 1)},
        {"details": {"a": nest(MAX_DETAILS_DEPTH)}},
        {"details": math.nan},
    ],
)
def test_a_malformed_failure_is_a_protocol_error(change: dict[str, Any]) -> None:
    """The host trusts nothing that comes from the author's process."""
    with pytest.raises(ProtocolError):
        decode_failure(json.dumps({**GOOD, **change}).encode())


def test_details_may_be_as_deep_as_pydantic_writes_them() -> None:
    """An honest worker is never refused."""
    document = {**GOOD, "details": nest(MAX_DETAILS_DEPTH)}

    assert decode_failure(json.dumps(document).encode()).details == nest(MAX_DETAILS_DEPTH)


@pytest.mark.parametrize("missing", ["code", "message", "retryable", "status"])
def test_a_failure_that_lacks_a_member_is_a_protocol_error(missing: str) -> None:
    """Nothing is filled in."""
    document = {key: value for key, value in GOOD.items() if key != missing}

    with pytest.raises(ProtocolError, match="malformed ERROR frame"):
        decode_failure(json.dumps(document).encode())


@given(st.none() | st.floats(0, 1), st.none() | st.text(max_size=100))
def test_progress_arrives_as_it_was_sent(fraction: float | None, message: str | None) -> None:
    """Any text will do; JSON's escapes carry even what UTF-8 cannot."""
    assert decode_progress(encode_progress(fraction, message)) == (fraction, message)


def test_a_long_message_of_progress_is_cut() -> None:
    """It is a few words on the current step."""
    _, message = decode_progress(encode_progress(None, "m" * 99_999))

    assert message == "m" * MAX_MESSAGE_CHARS


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"fraction": true}', "fraction is not a number"),
        (b'{"fraction": "1"}', "fraction is not a number"),
        (b'{"fraction": -0.1}', "fraction is not within 0 and 1"),
        (b'{"fraction": 1.1}', "fraction is not within 0 and 1"),
        (b'{"fraction": 1e999}', "fraction is not within 0 and 1"),
        (b'{"fraction": NaN}', "payload is not JSON"),
        (b'{"message": 1}', "message is not a string"),
    ],
)
def test_malformed_progress_is_a_protocol_error(payload: bytes, reason: str) -> None:
    """A progress bar must not be able to break the host."""
    with pytest.raises(ProtocolError, match=reason):
        decode_progress(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "payload is not JSON"),
        (b"\xff", "payload is not JSON"),
        (b"{", "payload is not JSON"),
        (b"[" * 100_000, "payload is not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "payload is not JSON"),
        (b"[]", "payload is not a JSON object"),
        (b"null", "payload is not a JSON object"),
    ],
)
def test_what_is_not_an_object_is_a_protocol_error(payload: bytes, reason: str) -> None:
    """Deep and huge values are the classic ways to crash a parser."""
    with pytest.raises(ProtocolError, match=reason):
        decode_object(payload)


@pytest.mark.parametrize(
    "decode",
    [
        pytest.param(decode_run, id="run"),
        pytest.param(decode_failure, id="failure"),
        pytest.param(decode_progress, id="progress"),
        pytest.param(decode_object, id="object"),
        pytest.param(decode_call, id="call"),
    ],
)
@given(payload=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_decoded_or_a_protocol_error(
    decode: Callable[[bytes], object], payload: bytes
) -> None:
    """No bytes come through as another exception."""
    try:
        decode(payload)
    except ProtocolError as exc:
        assert str(exc)  # noqa: PT017 - either outcome is right


LABELS = st.from_regex(LABEL_PATTERN, fullmatch=True)
HEADS = st.builds(
    CallHead,
    agent=st.none() | st.text(max_size=50),
    capability=st.text(max_size=50),
    timeout_s=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    traceparent=st.none() | st.text(max_size=60),
    task=st.integers(0, 2**64),
    labels=st.dictionaries(LABELS, LABELS, max_size=MAX_CALL_LABELS),
    stream=st.booleans(),
    id=st.none() | TASK_IDS,
)


@given(HEADS, st.binary(max_size=100))
def test_a_call_comes_out_as_it_went_in(head: CallHead, input: bytes) -> None:
    """The host passes the input on as the bytes that came: it may hold anything, line breaks too."""
    assert decode_call(encode_call(head, input)) == (head, input)


def test_an_input_is_not_looked_at_for_the_head() -> None:
    """Eight megabytes without a line break must not be searched or parsed in the host's loop."""
    head = CallHead("a" * (MAX_CALL_HEAD_BYTES + 1), "c", None, None)
    with pytest.raises(ProtocolError, match="its head is too large"):
        decode_call(encode_call(head, b"1"))
    with pytest.raises(ProtocolError, match="its head is too large"):
        decode_call(b"{" * 8_000_000)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": 1},
        {"capability": None},
        {"timeout_s": 0},
        {"timeout_s": True},
        {"timeout_s": "1"},
        {"timeout_s": 1e999},
        {"traceparent": 1},
        {"task": -1},
        {"task": True},
        {"task": 1.0},
        {"labels": []},
        {"labels": ""},
        {"labels": {"a": 1}},
        {"labels": {"a": ""}},
        {"labels": {"-": "a"}},
        {"labels": {"a": "b" * 64}},
        {"labels": {f"k{number}": "v" for number in range(MAX_CALL_LABELS + 1)}},
        {"stream": 1},
        {"id": 1},
    ],
)
def test_a_malformed_call_is_a_protocol_error(change: dict[str, object]) -> None:
    """Nothing that the worker says of a call is trusted."""
    head = {"agent": "a", "capability": "c", "timeout_s": 1, "traceparent": None, **change}
    with pytest.raises(ProtocolError, match=r"CALL|not JSON"):
        decode_call(json.dumps(head).encode() + b"\n1")


def test_counts_and_seconds_have_a_fixed_size() -> None:
    """They are the whole payload of ACK and STOP."""
    assert COUNT.pack(258) == b"\x00\x00\x01\x02"
    assert SECONDS.unpack(SECONDS.pack(2.5)) == (2.5,)

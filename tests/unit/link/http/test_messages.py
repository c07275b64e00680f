"""The messages of kLink as bytes: what we write is what the models read, and what we read is checked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.messages import (
    encode_reports,
    parse_answer,
    parse_offer,
    read_code,
    reject,
)
from kagent_sdk.link.port import Report
from kagent_sdk.protocol.link import Offer, Registered, ReportItem, Reports
from kagent_sdk.protocol.tasks import TaskFailure

LEASE = "lease-0123456789abcdef"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BODY = b'{"id": "t1", "capability": "add", "input": [1.50], "metadata": {"a": 1}}'
PROBLEM = {"Content-Type": "application/problem+json; charset=utf-8"}


@given(st.lists(st.recursive(st.text() | st.integers() | st.none(), st.lists), max_size=5))
def test_reports_are_what_the_model_reads(payloads: list[object]) -> None:
    """They are written by hand, so that payloads stay as they are."""
    reports = [
        Report(f"r{n}", f"t{n}", LEASE, "event", json.dumps(payload).encode())
        for n, payload in enumerate(payloads)
    ]
    read = Reports.model_validate_json(encode_reports(reports))

    assert read == Reports(
        items=tuple(
            ReportItem(id=f"r{n}", task=f"t{n}", lease=LEASE, kind="event", payload=payload)
            for n, payload in enumerate(payloads)
        )
    )


def test_a_payload_keeps_its_bytes() -> None:
    """1.50 is not 1.5 to everybody."""
    assert b'"payload":1.50}' in encode_reports([Report("r", "t", LEASE, "result", b"1.50")])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[]", "the whole is wrong (model_type)"),
        (b'{"orchestrator": "o", "lease_s": 0, "heartbeat_s": 1}', "lease_s is wrong"),
    ],
)
def test_an_answer_that_is_wrong_is_named_by_our_own_words(body: bytes, reason: str) -> None:
    """What the other side wrote may hold anything."""
    with pytest.raises(ContactError) as caught:
        parse_answer(Registered, body)

    assert reason in caught.value.reason
    assert caught.value.fault is Fault.REFUSED


def test_members_of_a_newer_orchestrator_are_ignored() -> None:
    """Each side may be newer than the other."""
    body = b'{"orchestrator": "o", "lease_s": 3, "heartbeat_s": 1, "mood": "fine"}'

    assert parse_answer(Registered, body).orchestrator == "o"


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        (PROBLEM, b'{"code": "invalid_json"}', "invalid_json"),
        (PROBLEM, b"{}", ""),
        (PROBLEM, b'{"code": 7}', ""),
        (PROBLEM, b"nonsense", ""),
        (PROBLEM, b'{"code": "x"}' + b" " * 70_000, ""),
        ({"Content-Type": "application/json"}, b'{"code": "invalid_json"}', ""),
        ({}, b'{"code": "invalid_json"}', ""),
    ],
)
def test_only_a_problem_document_has_a_code(
    headers: dict[str, str], body: bytes, code: str
) -> None:
    """What a proxy says is not the orchestrator's word."""
    assert read_code(headers, body) == code


def test_an_offer_is_read_whole() -> None:
    """Input and metadata stay raw; a header that is missing has a sense."""
    headers = {"Klink-Lease": LEASE, "Klink-Attempt": "2", "Klink-Hops": "16", "traceparent": TRACE}

    assert parse_offer(headers, BODY) == Offer(
        "t1", LEASE, "add", b"[1.50]", None, b'{"a": 1}', TRACE, attempt=2, hops=16
    )
    plain = parse_offer({"Klink-Lease": LEASE, "traceparent": "nonsense"}, BODY)
    assert (plain.attempt, plain.hops, plain.traceparent) == (1, 0, "")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        ({"Klink-Lease": "short"}, BODY),
        ({"Klink-Lease": LEASE, "Klink-Attempt": "0"}, BODY),
        ({"Klink-Lease": LEASE, "Klink-Attempt": "1" * 10}, BODY),
        ({"Klink-Lease": LEASE, "Klink-Hops": "x"}, BODY),
        ({"Klink-Lease": LEASE, "Klink-Hops": "17"}, BODY),
        ({"Klink-Lease": LEASE, "Klink-Beat": "-1"}, BODY),
        ({"Klink-Lease": LEASE}, b'{"capability": "add"}'),
        ({"Klink-Lease": LEASE}, b"nonsense"),
    ],
)
def test_an_offer_that_is_none_is_refused(headers: dict[str, str], body: bytes) -> None:
    """Before the host sees anything of it."""
    with pytest.raises(ContactError, match="not kLink"):
        parse_offer(headers, body)


@pytest.mark.parametrize(
    ("trace", "trace_id"), [(TRACE, "0af7651916cd43dd8448eb211c80319c"), ("", None)]
)
def test_a_rejected_task_has_ended_for_its_orchestrator(trace: str, trace_id: str | None) -> None:
    """It has the members of every task document."""
    offer = Offer("t1", LEASE, "add", b"{}", metadata=b'{"a": 1}', traceparent=trace)
    report = reject(offer, TaskFailure("unknown_capability", "no"), 1_700_000_000.0)
    document = json.loads(report.payload)

    assert (report.task, report.lease, report.kind) == ("t1", LEASE, "result")
    assert document["state"] == "rejected"
    assert document["error"]["code"] == "unknown_capability"
    assert document["metadata"] == {"a": 1}
    assert document["trace_id"] == trace_id
    assert document["finished_at"] == "2023-11-14T22:13:20.000000Z"

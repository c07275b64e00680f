"""What is counted, remembered and logged of the egress proxy, however much a worker asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kagent_sdk.errors import EgressError
from kagent_sdk.host import egress_record
from kagent_sdk.host.egress_record import BURST, MAX_DENIALS, OTHERS, EgressRecord, RateBound
from kagent_sdk.host.egress_status import describe
from kagent_sdk.protocol.sandbox import EgressInfo
from kagent_sdk.sandbox.egress.passage import Passage, Way
from kagent_sdk.sandbox.policy import Destination

NOT_LISTED = EgressError("not_listed", "add it")
DOWN = EgressError("unreachable", "it is down")


class Bench:
    """A record, and what it wrote.

    Attributes:
        now_s: the clock's time.
        lines: of the log.
    """

    def __init__(self) -> None:
        self.now_s = 100.0
        self.lines: list[tuple[str, str, Mapping[str, Any]]] = []
        self.record = EgressRecord(self._log, lambda: self.now_s, lambda: 1e9 + self.now_s)

    def _log(self, level: str, event: str, **values: Any) -> None:
        self.lines.append((level, event, values))


def passage(host: str = "a.example", way: Way = Way.TUNNEL) -> Passage:
    """Return a passage by the entry ``*.example:443``, or the host's own."""
    entry = "*.example" if host.endswith(".example") else host
    return Passage(way, Destination(entry, 443), host, 443, address="8.8.8.8")


def test_what_passes_is_counted_by_its_entry_while_it_passes() -> None:
    """A tunnel may be open for hours."""
    bench = Bench()
    first, second = passage(), passage("b.example", Way.PLAIN)
    for one in (first, second):
        bench.record.opened(one)
    first.sent_bytes, first.received_bytes = 10, 20
    second.sent_bytes = 1
    open_count = bench.record.counts()["*.example:443"]
    first.outcome = "done"
    bench.record.closed(first, None, 1.23456)
    bench.record.closed(second, DOWN, 1)
    count = bench.record.counts()["*.example:443"]

    assert (open_count.sent_bytes, open_count.received_bytes) == (11, 20)
    assert (count.sent_bytes, count.received_bytes) == (11, 20)
    assert count.passages == {Way.TUNNEL: 1, Way.PLAIN: 1}
    assert count.failed == {"unreachable": 1}
    assert bench.lines[0] == (
        "info",
        "egress_closed",
        {
            "destination": "a.example:443",
            "address": "8.8.8.8",
            "way": "tunnel",
            "outcome": "done",
            "sent_bytes": 10,
            "received_bytes": 20,
            "took_s": 1.235,
        },
    )
    assert bench.lines[1][:2] == ("warning", "egress_failed")


def test_what_is_refused_is_remembered_the_latest_first() -> None:
    """With how often, and what to do."""
    bench = Bench()
    bench.record.refused(NOT_LISTED, "a.example", 443)
    bench.record.refused(NOT_LISTED, "b.example", 443)
    bench.record.refused(NOT_LISTED, "a.example", 443)
    bench.record.refused(EgressError("busy", "no place"), "", 0)
    denials = bench.record.denials

    assert [(one.destination, one.count) for one in denials] == [
        ("a.example:443", 2),
        ("b.example:443", 1),
    ]
    assert denials[0].message == "add it"
    assert bench.record.refusals == {"not_listed": 3, "busy": 1}
    assert "destination" not in bench.lines[-1][2]


def test_a_refusal_behind_the_greeting_is_one_too() -> None:
    """The destination was allowed, and what was said to it was not."""
    bench = Bench()
    one = passage()
    bench.record.opened(one)
    bench.record.closed(one, EgressError("wrong_name", "another name"), 1)

    assert bench.record.refusals == {"wrong_name": 1}
    assert bench.record.counts()["*.example:443"].failed == {}
    assert bench.lines[0][:2] == ("warning", "egress_refused")


def test_nothing_grows_without_an_end(monkeypatch: Any) -> None:
    """A worker can ask for a million destinations."""
    monkeypatch.setattr(egress_record, "MAX_ENTRIES", 2)
    bench = Bench()
    for number in range(MAX_DENIALS + 10):
        bench.record.refused(NOT_LISTED, f"h{number}.test", 443)
        one = passage(f"h{number}.test")
        bench.record.opened(one)
        if number % 2:
            bench.record.closed(one, None, 0)
        else:
            one.sent_bytes = 1
    counts = bench.record.counts()

    assert len(bench.record.denials) == MAX_DENIALS
    assert bench.record.denials[-1].destination == "h10.test:443"
    assert set(counts) == {"h0.test:443", "h1.test:443", OTHERS}
    assert sum(one.sent_bytes for one in counts.values()) == (MAX_DENIALS + 10) // 2


def test_the_log_gets_so_much_and_is_told_of_the_rest() -> None:
    """Else a worker could fill the disk, and push out what matters."""
    bench = Bench()
    for _ in range(BURST + 5):
        bench.record.refused(NOT_LISTED, "a.example", 443)
    bench.record.broke(ValueError("x"))
    assert len(bench.lines) == BURST + 1
    bench.now_s += 1
    bench.record.refused(NOT_LISTED, "a.example", 443)

    assert bench.lines[-1][2]["held_back"] == 5
    assert "held_back" not in bench.lines[0][2]
    assert bench.lines[-2] == ("error", "egress_broke", {"error": "ValueError('x')"})


def test_a_bound_fills_up_no_further_than_its_burst() -> None:
    """An hour of silence is no right to thousands of records."""
    now = [0.0]
    bound = RateBound(lambda: now[0])
    now[0] = 3600

    assert sum(bound.take() is not None for _ in range(1000)) == BURST


def test_the_status_fits_its_model() -> None:
    """It is checked before it goes over the wire."""
    bench = Bench()
    one = passage()
    bench.record.opened(one)
    bench.record.closed(one, DOWN, 1)
    bench.record.refused(NOT_LISTED, "b.example", 443)
    info = EgressInfo.model_validate(describe(bench.record, connections=3))

    assert info.connections == 3
    assert info.destinations[0].tunnel == 1
    assert info.destinations[0].failed == {"unreachable": 1}
    assert info.denials[0].at.timestamp() == 1e9 + 100

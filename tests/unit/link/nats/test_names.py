"""Names in NATS: valid wherever they go, and never the same for two things."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.link.nats import names
from kagent_sdk.protocol.headers import is_task_id
from kagent_sdk.protocol.link import AGENT_PATTERN
from kagent_sdk.protocol.manifest import NAME_PATTERN

AGENTS = st.from_regex(AGENT_PATTERN, fullmatch=True).filter(str.isascii)
CAPABILITIES = st.from_regex(NAME_PATTERN, fullmatch=True).filter(str.isascii)
PAIRS = st.tuples(AGENTS, CAPABILITIES)


@given(PAIRS, PAIRS)
def test_two_capabilities_never_share_a_stream_or_subject(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """`a_b` with `c` and `a` with `b_c` must not take each other's tasks."""
    for name in (names.tasks_stream, names.tasks_subject, names.dead_subject, names.call_subject):
        assert (name(*one) == name(*other)) == (one == other)


def test_names_that_only_look_alike_stay_apart() -> None:
    """These are the pairs that a plainer way of writing them would confuse."""
    assert names.tasks_stream("a_b", "c") != names.tasks_stream("a", "b_c")
    assert names.tasks_stream("a.b", "c") != names.tasks_stream("a", "b.c")
    assert names.token("a.b") != names.token("a-b")


@given(PAIRS)
def test_names_are_valid_in_nats(pair: tuple[str, str]) -> None:
    """A dot in a stream's name is refused by the server; one in a subject parts it."""
    assert re.fullmatch(r"[^\s.*>/\\]+", names.tasks_stream(*pair))
    assert len(names.tasks_subject(*pair).split(".")) == 4
    assert re.fullmatch(r"[-/_=.a-zA-Z0-9]+", names.task_key(pair[0], "id:1"))
    assert re.fullmatch(r"[A-Za-z0-9\-_]+", names.service_name(pair[0]))


def test_a_chosen_route_is_no_agent_s_task() -> None:
    """Both are keys of one bucket."""
    assert names.route_key("t") == "_any.t"
    assert not re.match(AGENT_PATTERN, "_any")


def test_versions_that_are_none_do_not_keep_a_service_from_being_listed() -> None:
    """Authors call versions what they like."""
    versions = ("1.2.3", "2.0.0-rc.1", "2026.1", "main", "1.2.٣")

    assert [names.service_version(one) for one in versions] == [
        *("1.2.3", "2.0.0-rc.1", "0.0.0", "0.0.0", "0.0.0")
    ]


@given(CAPABILITIES, st.integers(1, 2**63))
def test_an_id_that_is_made_up_is_a_task_id(capability: str, sequence: int) -> None:
    """A task that was published without an id is shown and followed as others are."""
    assert is_task_id(names.task_id_of(capability, sequence, datetime(2026, 1, 1, tzinfo=UTC)))

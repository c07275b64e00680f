"""Rows as lines of JSON, and back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.snapshots.intake import columns_of
from kagent_sdk.snapshots.rows import Column, RowError, Value, decode, encode, read_columns, split
from kagent_sdk.storage.schema import SCHEMA_VERSION

COLUMNS = (
    Column("text", "TEXT", is_required=True),
    Column("count", "INTEGER", is_required=False),
    Column("ratio", "REAL", is_required=False),
    Column("data", "BLOB", is_required=False),
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.text(st.characters(codec="utf-8")),
    st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
    st.none() | NUMBERS,
    st.none() | st.binary() | JSON.map(lambda value: json.dumps(value, indent=1).encode()),
)
def test_every_row_comes_back_to_the_byte(
    text: str, count: int | None, ratio: float | None, data: bytes | None
) -> None:
    """A task's id stands for its very bytes; the same input again must be the same task."""
    row: list[Value] = [text, count, ratio, data]
    line = encode(COLUMNS, row)

    assert line.text.count(b"\n") == 1
    assert decode(COLUMNS, split(line.text)) == row
    json.loads(line.text)


def test_json_stands_in_a_line_as_it_is() -> None:
    """A person reads the state with `zstdcat` and `jq`."""
    line = encode(COLUMNS, ["a", None, None, b'{"n": [1, 2]}'], table="tasks")

    assert line.text == b'{"table":"tasks","text":"a","data":{"n": [1, 2]}}\n'
    assert line.hidden == ()


@pytest.mark.parametrize("data", [b"[1,\n2]", b"[1,\r2]", b"\xff", b"", b"nul", b'"\\ud800"'])
def test_bytes_that_would_break_the_line_are_hidden_in_it(data: bytes) -> None:
    """Whoever looks for secrets must see them too."""
    line = encode(COLUMNS, ["a", None, None, data])

    assert line.hidden == (data,)
    assert b'"data.base64":"' in line.text


@pytest.mark.parametrize(
    "row",
    [
        [1, None, None, None],
        ["a", "1", None, None],
        ["a", None, "1", None],
        ["a", None, float("inf"), None],
        ["a", None, float("nan"), None],
        ["a", None, None, 1],
    ],
)
def test_a_value_that_its_column_cannot_have_is_refused(row: list[Value]) -> None:
    """SQLite takes anything anywhere; a snapshot does not."""
    with pytest.raises(RowError, match="odd value in the column"):
        encode(COLUMNS, row)


def test_a_line_that_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds on both sides."""
    monkeypatch.setattr("kagent_sdk.snapshots.rows.MAX_LINE_BYTES", 20)

    with pytest.raises(RowError, match="takes more than 20 bytes"):
        encode(COLUMNS, ["a" * 20, None, None, None])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "no JSON object"),
        (b"\xff", "no JSON"),
        (b'{"text":"a"', "no JSON"),
        (b'{"text":"a"} x', "goes on"),
        (b'{"text":"a","text":"b"}', "comes twice"),
        (b'{"text":"a","' + b"x" * 200 + b'":1}', "unknown or comes twice"),
        (b"{" + b",".join(b'"%d":1' % number for number in range(200)) + b"}", "unknown"),
    ],
)
def test_a_line_is_taken_apart_strictly(line: bytes, said: str) -> None:
    """However long it is, it builds no more than a few columns."""
    with pytest.raises(RowError, match=said):
        split(line)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "lacks the column text"),
        ({"text": b"null"}, "else than TEXT"),
        ({"text": b'"a"', "count": b"true"}, "else than INTEGER"),
        ({"text": b'"a"', "count": b"9007199254740992"}, "else than INTEGER"),
        ({"text": b'"a"', "ratio": b'"1"'}, "else than REAL"),
        ({"text": b'"a"', "ratio": b"1e400"}, "else than REAL"),
        ({"text": b'"a"', "data": b"1", "data.base64": b'"MQ=="'}, "the column data twice"),
        ({"text": b'"a"', "data.base64": b'"M"'}, "no base64"),
        ({"text": b'"a"', "text.base64": b'"MQ=="'}, "unknown"),
    ],
)
def test_columns_are_taken_strictly(members: dict[str, bytes], said: str) -> None:
    """What stands in the database afterwards is what the host expects there."""
    with pytest.raises(RowError, match=said):
        decode(COLUMNS, members)


def test_columns_are_those_of_the_schema() -> None:
    """A column that a later version adds is in snapshots by itself."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE x (a INTEGER PRIMARY KEY, b TEXT NOT NULL, c BLOB)")
        columns = read_columns(connection, "x")

    assert columns == (
        Column("a", "INTEGER", is_required=True),
        Column("b", "TEXT", is_required=True),
        Column("c", "BLOB", is_required=False),
    )
    assert set(columns_of(SCHEMA_VERSION)) == {"state", "manifests", "tasks", "events"}

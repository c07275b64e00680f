"""Rows of the database as lines of JSON, and back. Pure.

A line is an object with a member for each column that is not NULL. Raw JSON stands in it as it is;
bytes that are none, or would break the line, stand in base64 under ``NAME.base64``. Reading builds no
more than one line, and of that only the columns.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kagent_sdk.protocol.json_text import (
    JsonTextError,
    check_text,
    is_json,
    read_member,
    skip_blank,
)

Value = str | int | float | bytes | None
Kind = Literal["TEXT", "INTEGER", "REAL", "BLOB"]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Eight times what a request may send by default; one line is held in memory."""

MAX_COLUMNS = 100
MAX_NAME_CHARS = 100
"""Of a column; both far over what any table has."""

TABLE = "table"
_BASE64 = ".base64"
MAX_INTEGER = 2**53 - 1
_FITTING: Mapping[Kind, tuple[type, ...]] = {
    "TEXT": (str,),
    "INTEGER": (int,),
    "REAL": (int, float),
}
_is_integer = re.compile(rb"-?(?:0|[1-9][0-9]{0,15})").fullmatch
_is_number = re.compile(
    rb"-?(?:0|[1-9][0-9]{0,308})(?:\.[0-9]{1,400})?(?:[eE][-+]?[0-9]{1,3})?"
).fullmatch
_KINDS: Mapping[str, Kind] = {
    "TEXT": "TEXT",
    "INTEGER": "INTEGER",
    "REAL": "REAL",
    "BLOB": "BLOB",
}


class RowError(Exception):
    """A row or a line is not what it should be; the message says why and holds no value."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, as the database declares it."""

    name: str
    kind: Kind
    is_required: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it is written.

    Attributes:
        text: with the newline at its end.
        hidden: what stands in it in base64, as it really is.
    """

    text: bytes
    hidden: tuple[bytes, ...]


def read_columns(connection: sqlite3.Connection, table: str) -> tuple[Column, ...]:
    """Return the columns of a table, in order."""
    rows = connection.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall()
    return tuple(
        Column(name, _KINDS[kind], bool(is_required or key))
        for _, name, kind, is_required, _, key in rows
    )


def encode(columns: Sequence[Column], row: Sequence[Value], *, table: str | None = None) -> Line:
    """Return a row as a line.

    Args:
        columns: in the order of the row.
        row: its values.
        table: where it belongs, if lines of several tables stand in one member.

    Raises:
        RowError: it has a value that its column cannot have.
    """
    members: list[bytes] = [] if table is None else [_member(TABLE, json.dumps(table).encode())]
    hidden: list[bytes] = []
    for column, value in zip(columns, row, strict=True):
        if value is None:
            continue
        if column.kind == "BLOB":
            members.append(_encode_bytes(column.name, value, hidden))
        else:
            members.append(_member(column.name, _encode_scalar(column, value)))
    text = b"{%b}\n" % b",".join(members)
    if len(text) > MAX_LINE_BYTES:
        raise RowError(f"takes more than {MAX_LINE_BYTES} bytes")
    return Line(text, tuple(hidden))


def _member(name: str, value: bytes) -> bytes:
    return b'"%b":%b' % (name.encode(), value)


def _encode_scalar(column: Column, value: Value) -> bytes:
    if not isinstance(value, _FITTING[column.kind]) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise RowError(f"has an odd value in the column {column.name}")
    return json.dumps(value).encode()


def _encode_bytes(name: str, value: Value, hidden: list[bytes]) -> bytes:
    if not isinstance(value, bytes):
        raise RowError(f"has an odd value in the column {name}")
    if b"\n" not in value and b"\r" not in value and is_json(value):
        return _member(name, value)
    hidden.append(value)
    return _member(f"{name}{_BASE64}", b'"%b"' % base64.b64encode(value))


def split(line: bytes) -> dict[str, bytes]:
    """Return the members of a line as raw JSON.

    Raises:
        RowError: it is no object, or a member comes twice.
    """
    members: dict[str, bytes] = {}
    try:
        check_text(line)
        position = skip_blank(line, 0)
        if line[position : position + 1] != b"{":
            raise RowError("is no JSON object")
        position = skip_blank(line, position + 1)
        while line[position : position + 1] != b"}":
            raw_key, value, position = read_member(line, position)
            key = raw_key[1:-1].decode()
            if key in members or len(key) > MAX_NAME_CHARS or len(members) == MAX_COLUMNS:
                raise RowError("has a column that is unknown or comes twice")
            members[key] = value
        if skip_blank(line, position + 1) != len(line):
            raise RowError("goes on behind its end")
    except JsonTextError as exc:
        raise RowError(f"is no JSON: {exc}") from None
    return members


def decode(columns: Sequence[Column], members: Mapping[str, bytes]) -> list[Value]:
    """Return the values of a line, in the order of the columns.

    Raises:
        RowError: it does not fit them.
    """
    left = dict(members)
    values: list[Value] = []
    for column in columns:
        encoded = left.pop(column.name + _BASE64, None) if column.kind == "BLOB" else None
        raw = left.pop(column.name, None)
        if raw is not None and encoded is not None:
            raise RowError(f"has the column {column.name} twice")
        value = None if raw is None else _decode(column, raw)
        if encoded is not None:
            value = _decode_base64(column, encoded)
        if value is None and column.is_required:
            raise RowError(f"lacks the column {column.name}")
        values.append(value)
    if left:
        raise RowError("has a column that is unknown")
    return values


def _decode(column: Column, raw: bytes) -> Value:
    match column.kind:
        case "BLOB":
            return raw
        case "TEXT" if raw[:1] == b'"':
            return str(json.loads(raw))
        case "INTEGER" if _is_integer(raw) and abs(int(raw)) <= MAX_INTEGER:
            return int(raw)
        case "REAL" if _is_number(raw) and math.isfinite(float(raw)):
            return float(raw)
        case _:
            raise RowError(f"has something else than {column.kind} in the column {column.name}")


def _decode_base64(column: Column, raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw.strip(b'"'), validate=True)
    except ValueError:
        raise RowError(f"has no base64 in the column {column.name}") from None

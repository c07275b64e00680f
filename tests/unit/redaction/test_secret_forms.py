"""The forms of a secret: whatever an encoder makes of it must be among them."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.redaction.secret_forms import MAX_PIECE_CHARS, MIN_SECRET_CHARS, forms_of, pieces_of

TRICKY = [
    "hunter2-hunter2",
    "quote\"and'quote",
    "back\\slash/slash",
    "päss-wörd-😀",
    "a b+c&d=e?f#g~h*i(j)!",
    "<script>&amp;",
    "tab\there\x01\x7f",
    "p@ss:w/rd%41",
]

ENCODERS: dict[str, Callable[[str], str]] = {
    "clear": str,
    "json": json.dumps,
    "json utf-8": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps({"x": text})),
    "json utf-8 in json": lambda text: json.dumps(json.dumps(text, ensure_ascii=False)),
    "json with \\/": lambda text: json.dumps(text).replace("/", "\\/"),
    "repr": repr,
    "repr of a list": lambda text: repr(["'", text, '"']),
    "repr in quotes of both kinds": lambda text: repr(f"'\"{text}"),
    "repr in double quotes": lambda text: repr(f"'{text}"),
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "repr of bytes with both quotes": lambda text: repr(b"'\"" + text.encode()),
    "repr in json": lambda text: json.dumps(repr(text)),
    "quote": urllib.parse.quote,
    "quote all": lambda text: urllib.parse.quote(text, safe=""),
    "quote_plus": urllib.parse.quote_plus,
    "urlencode": lambda text: urllib.parse.urlencode({"key": text}),
    "encodeURIComponent": lambda text: urllib.parse.quote(text, safe="~!*'()"),
    "encodeURI": lambda text: urllib.parse.quote(text, safe="~!*'();,/?:@&=+$#"),
    "quote, small hex": lambda text: re.sub(
        "%..", lambda match: match[0].lower(), urllib.parse.quote(text, safe="")
    ),
    "every byte": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in an address": lambda text: urllib.parse.quote(
        base64.b64encode(text.encode()).decode(), safe=""
    ),
}

secrets = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=MIN_SECRET_CHARS, max_size=60
).filter(lambda text: len(text.strip()) >= MIN_SECRET_CHARS)


def is_given_away(secret: str, text: str) -> bool:
    """Whether any form of the secret stands in the text."""
    return any(form in text.encode() for form in forms_of(secret))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("secret", TRICKY)
def test_an_encoded_secret_is_known(secret: str, encoder: str) -> None:
    """Secrets leave in requests, addresses and objects far more often than alone."""
    assert is_given_away(secret, ENCODERS[encoder](secret))


@given(secret=secrets, encoder=st.sampled_from(sorted(ENCODERS)))
def test_any_encoded_secret_is_known(secret: str, encoder: str) -> None:
    """Generated passwords hold every character that an encoder treats specially."""
    assert is_given_away(secret, ENCODERS[encoder](secret))


@given(secret=secrets, before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_secret_inside_a_longer_base64_text_is_known(
    secret: str, before: bytes, after: bytes
) -> None:
    """``Authorization: Basic`` holds the user's name in front of the password."""
    raw = before + secret.encode() + after
    standard = base64.b64encode(raw).decode()
    urlsafe = base64.urlsafe_b64encode(raw).decode()

    assert is_given_away(secret, standard)
    assert is_given_away(secret, urlsafe)
    assert is_given_away(secret, standard.replace("/", "\\/"))


@given(secret=secrets)
def test_no_form_is_so_short_that_it_stands_everywhere(secret: str) -> None:
    """A form of three characters would make a log unreadable."""
    assert min(map(len, forms_of(secret))) >= MIN_SECRET_CHARS


@pytest.mark.parametrize("value", ["", "short", "a\nb", "-----END KEY-----"])
def test_what_is_no_secret_by_itself_has_no_form(value: str) -> None:
    """A port number or a letter is found in every second line."""
    assert forms_of(value) == set()


def test_every_line_of_a_key_counts_but_not_its_frame() -> None:
    """A PEM key is printed line by line; its first line is the same for everybody."""
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\r\n  kqhkiG9w0BAQEF  \nabc\n-----END PRIVATE KEY-----\n"

    assert pieces_of(key) == [key, "MIIEvQIBADANBg", "kqhkiG9w0BAQEF"]
    assert b"MIIEvQIBADANBg" in forms_of(key)


def test_blanks_around_a_secret_do_not_hide_it() -> None:
    """A file that ends with a newline gives a token that does."""
    assert pieces_of(" token-token\n") == [" token-token\n", "token-token"]


def test_a_long_secret_is_known_by_its_pieces() -> None:
    """What is searched for must fit into a log line, however long the secret is."""
    value = "x" * 10 + "y" * 2 * MAX_PIECE_CHARS

    pieces = pieces_of(value)

    assert "".join(pieces) == value
    assert max(map(len, pieces)) == MAX_PIECE_CHARS


def test_json_for_pages_is_known() -> None:
    """Go and many template engines escape what HTML would take for markup."""
    secret = "<top&secret>"  # noqa: S105 - made up
    text = json.dumps(secret).replace("<", "\\u003c").replace(">", "\\u003e")

    assert html.escape(secret) != secret
    assert is_given_away(secret, text.replace("&", "\\u0026"))

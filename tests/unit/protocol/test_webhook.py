"""Webhooks are signed as the standard says, and a receiver believes nothing else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import VaultError, WebhookSecretError, WebhookSignatureError
from kagent_sdk.protocol.tasks import TaskState
from kagent_sdk.protocol.webhook import (
    parse_secrets,
    sign_webhook,
    verify_webhook,
    webhook_body,
    webhook_headers,
)

# The test vector that the standard publishes.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {
    "webhook-id": MESSAGE_ID,
    "webhook-timestamp": str(SENT_AT),
    "webhook-signature": SIGNATURE,
}
OTHER = f"whsec_{base64.b64encode(b'o' * 32).decode()}"


def test_the_signature_is_that_of_the_standard() -> None:
    """Receivers use libraries of others."""
    assert sign_webhook(SECRET, MESSAGE_ID, SENT_AT + 0.9, BODY) == HEADERS
    assert verify_webhook(SECRET, HEADERS, BODY, now_s=SENT_AT) == {"test": 2432232314}


def test_header_names_have_no_case() -> None:
    """Every framework writes them in its own way."""
    headers = {name.title(): value for name, value in HEADERS.items()} | {"Host": "a"}

    assert verify_webhook(SECRET, headers, BODY, now_s=SENT_AT) == json.loads(BODY)


def test_several_secrets_make_several_signatures() -> None:
    """A secret is replaced without a message that anyone has to refuse."""
    headers = sign_webhook([OTHER, SECRET], MESSAGE_ID, SENT_AT, BODY)

    assert headers["webhook-signature"].split(" ")[1] == SIGNATURE
    for known in (SECRET, OTHER, [OTHER, SECRET]):
        assert verify_webhook(known, headers, BODY, now_s=SENT_AT) == json.loads(BODY)
    assert verify_webhook([OTHER, SECRET], HEADERS, BODY, now_s=SENT_AT) == json.loads(BODY)


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_a_missing_header_is_named(name: str) -> None:
    """Most often a proxy has dropped it."""
    for headers in ({**HEADERS, name: ""}, {key: HEADERS[key] for key in HEADERS if key != name}):
        with pytest.raises(WebhookSignatureError, match=f"the header {name} is missing"):
            verify_webhook(SECRET, headers, BODY, now_s=SENT_AT)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(SENT_AT + 1)},
        {"webhook-signature": SIGNATURE.replace("g0", "h0")},
        {"webhook-signature": SIGNATURE.replace("v1,", "v2,")},
        {"webhook-signature": SIGNATURE.removeprefix("v1,")},
        {"webhook-signature": "v1,ü\udc80 " + "x " * 100},
        {"webhook-signature": "x " * 40 + SIGNATURE},
        {"webhook-id": "\udc80"},
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, str]) -> None:
    """Anyone can send to a public address."""
    with pytest.raises(WebhookSignatureError, match="no signature of the message fits"):
        verify_webhook(SECRET, HEADERS | changed, BODY, now_s=SENT_AT)


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_no_changed_body_is_believed(body: bytes, position: int, flip: int) -> None:
    """One bit of a result may be worth money."""
    document = b'{"data":"%b"}' % base64.b64encode(body)
    headers = sign_webhook(SECRET, MESSAGE_ID, SENT_AT, document)
    position %= len(document)
    changed = bytearray(document)
    changed[position] ^= flip

    assert verify_webhook(SECRET, headers, document, now_s=SENT_AT) == json.loads(document)
    with pytest.raises(WebhookSignatureError):
        verify_webhook(SECRET, headers, bytes(changed), now_s=SENT_AT)


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1.5", "9" * 13, "١٢٣"])
def test_a_timestamp_is_whole_seconds(timestamp: str) -> None:
    """Anything else would be read by every receiver in its own way."""
    with pytest.raises(WebhookSignatureError, match="webhook-timestamp"):
        verify_webhook(SECRET, HEADERS | {"webhook-timestamp": timestamp}, BODY, now_s=SENT_AT)


@pytest.mark.parametrize("off_s", [301, -301])
def test_an_old_message_is_refused(off_s: int) -> None:
    """Whoever recorded one could send it again next year."""
    with pytest.raises(WebhookSignatureError, match="an old one is repeated, or a clock is wrong"):
        verify_webhook(SECRET, HEADERS, BODY, now_s=SENT_AT + off_s)

    assert verify_webhook(SECRET, HEADERS, BODY, now_s=SENT_AT + off_s, tolerance_s=400)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused_too(body: bytes) -> None:
    """One error to catch."""
    headers = sign_webhook(SECRET, MESSAGE_ID, SENT_AT, body)

    with pytest.raises(WebhookSignatureError, match="not JSON"):
        verify_webhook(SECRET, headers, body, now_s=SENT_AT)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (None, "must be a string"),
        (7, "must be a string"),
        ("", "must be a string"),
        (base64.b64encode(b"x" * 32).decode(), "must be a string: whsec_ and then base64"),
        ("whsec_not*base64*at*all*hunter2*", "with its padding"),
        ("whsec_aHVudGVyMg", "with its padding"),
        ("whsec_hünter2", "with its padding"),
        (f"whsec_{base64.b64encode(b'x' * 23).decode()}", "24 to 64 bytes, and one has 23"),
        (f"whsec_{base64.b64encode(b'x' * 65).decode()}", "24 to 64 bytes, and one has 65"),
        ([], "1 to 8 members"),
        ([SECRET] * 9, "1 to 8 members"),
        ([SECRET, "hunter2"], "must be a string"),
    ],
)
def test_a_malformed_secret_is_refused_without_being_shown(secret: object, message: str) -> None:
    """It would end up in a log."""
    with pytest.raises(WebhookSecretError, match=message) as caught:
        parse_secrets(secret)

    assert isinstance(caught.value, VaultError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for value in (secret, *(secret if isinstance(secret, list) else [])):
        assert not value or str(value) not in str(caught.value)


@pytest.mark.parametrize("size", [24, 64])
def test_secrets_of_every_allowed_size_sign(size: int) -> None:
    """The bounds are the standard's."""
    (key,) = parse_secrets(f"whsec_{base64.b64encode(b'x' * size).decode()}")

    assert key == b"x" * size
    assert webhook_headers([key], "a", 1.0, b"")["webhook-timestamp"] == "1"


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED])
def test_the_body_tells_what_happened_and_when(state: TaskState) -> None:
    """The three members that the standard recommends."""
    body = webhook_body(state, 1_700_000_000.25, b'{"id":"a","output":1.50}')

    assert json.loads(body) == {
        "type": f"task.{state}",
        "timestamp": "2023-11-14T22:13:20.250000Z",
        "data": {"id": "a", "output": 1.5},
    }
    assert b"1.50" in body

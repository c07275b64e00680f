"""Webhooks in the Standard Webhooks format: the body, its signature, and how a receiver judges it.

The rules are those of https://github.com/standard-webhooks/standard-webhooks, specification 1.0.0,
with symmetric keys. A message carries three headers::

    webhook-id: msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
    webhook-timestamp: 1674087231
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

What is signed is ``ID.TIMESTAMP.BODY``. While a secret is being replaced there is a signature for
each, and a receiver that has one of them is content.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kagent_sdk.errors import WebhookSecretError, WebhookSignatureError
from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.tasks import TaskState

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
MAX_SECRETS = 8
"""The present one, and some that are on their way in or out."""

TOLERANCE_S = 300.0
"""How far a message's timestamp may be off: bounds for how long a stolen one can be replayed."""

_VERSION = "v1,"
_MAX_SIGNATURES = 32

_is_timestamp = re.compile(r"[0-9]{1,12}").fullmatch


def webhook_body(state: TaskState, at_s: float, document: bytes) -> bytes:
    """Return the body that tells how a task has ended.

    Args:
        state: a final one; the type is ``task.completed``, ``task.failed`` and so on.
        at_s: when that was, in seconds since the epoch.
        document: the task's, as ``GET /v1/tasks/{id}`` answers it.
    """
    return b'{"type":"task.%b","timestamp":"%b","data":%b}' % (
        state.value.encode(),
        format_time(at_s).encode(),
        document,
    )


def parse_secrets(value: object) -> tuple[bytes, ...]:
    """Return the keys that a secret, or a list of them, stands for.

    Raises:
        WebhookSecretError: one of them is malformed.
    """
    texts = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(texts) <= MAX_SECRETS:
        raise WebhookSecretError(f"a list of webhook secrets must have 1 to {MAX_SECRETS} members")
    return tuple(_parse_secret(text) for text in texts)


def _parse_secret(text: object) -> bytes:
    key = _decode_secret(text)
    if key is None:
        raise WebhookSecretError(
            f"a webhook secret must be a string: {SECRET_PREFIX} and then base64 with its padding"
        )
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise WebhookSecretError(
            f"a webhook secret must stand for {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, "
            f"and one has {len(key)}"
        )
    return key


def _decode_secret(text: object) -> bytes | None:
    if not isinstance(text, str) or not text.startswith(SECRET_PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return None  # and not raised from: the cause could show a part of the secret


def webhook_headers(
    keys: Sequence[bytes], message_id: str, at_s: float, body: bytes
) -> dict[str, str]:
    """Return the three headers of a message that is sent now.

    Args:
        keys: as `parse_secrets` returns them.
        message_id: the same one for every attempt.
        at_s: when it is sent, in seconds since the epoch.
        body: what is sent, byte by byte.
    """
    timestamp = str(int(at_s))
    signed = _signed(message_id, timestamp, body)
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: " ".join(_sign(key, signed) for key in keys),
    }


def sign_webhook(
    secret: str | Sequence[str], message_id: str, at_s: float, body: bytes
) -> dict[str, str]:
    """Return the headers of a message: for tests of a receiver.

    Args:
        secret: ``whsec_`` and base64, or several of them.
        message_id: any text without a dot.
        at_s: when it is sent, in seconds since the epoch.
        body: what is sent, byte by byte.

    Raises:
        WebhookSecretError: the secret is malformed.
    """
    return webhook_headers(parse_secrets(secret), message_id, at_s, body)


def verify_webhook(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> Any:
    """Return what a webhook says, if it comes from who has the secret, and was sent just now.

    The comparison takes the same time whatever is wrong with a signature. A message may come more than
    once: tell by the header ``webhook-id``.

    Args:
        secret: ``whsec_`` and base64, or several of them, of which one must fit.
        headers: of the request; the case of names does not matter.
        body: of the request, byte by byte: nothing that was parsed and written again.
        now_s: seconds since the epoch, such as `time.time`.
        tolerance_s: how old, or how far ahead, the message may be.

    Raises:
        WebhookSignatureError: it does not.
        WebhookSecretError: the secret is malformed.
    """
    keys = parse_secrets(secret)
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in _HEADERS if not given.get(name)]
    if missing:
        raise WebhookSignatureError(f"the header {missing[0]} is missing")
    message_id, timestamp, signatures = (given[name] for name in _HEADERS)
    if not _is_timestamp(timestamp):
        raise WebhookSignatureError(f"the header {TIMESTAMP_HEADER} is no time")
    signed = _signed(message_id, timestamp, body)
    if not _has_signature(signatures, [_sign(key, signed) for key in keys]):
        raise WebhookSignatureError("no signature of the message fits the secret and the body")
    if abs(now_s - int(timestamp)) > tolerance_s:
        raise WebhookSignatureError(
            f"the message was sent {now_s - int(timestamp):.0f} s ago, over {tolerance_s:g} s: "
            "an old one is repeated, or a clock is wrong"
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookSignatureError("the body is not JSON") from None


_HEADERS = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)


def _signed(message_id: str, timestamp: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (_encode(message_id), _encode(timestamp), body)


def _encode(text: str) -> bytes:
    """Encode what came from outside, lone surrogates and all."""
    return text.encode("utf-8", "replace")


def _sign(key: bytes, signed: bytes) -> str:
    return _VERSION + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _has_signature(header: str, expected: Sequence[str]) -> bool:
    found = False
    for given in header.split(" ", _MAX_SIGNATURES)[:_MAX_SIGNATURES]:
        for one in expected:
            # As bytes: compare_digest refuses texts that are not ASCII.
            found |= hmac.compare_digest(_encode(given), _encode(one))
    return found

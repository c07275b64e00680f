"""What the end of a task with a callback puts into the outbox."""

from __future__ import annotations

from kagent_sdk.journal.outbox import Message, message_id
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.callback_url import CallbackUrlError, parse_callback_url
from kagent_sdk.protocol.webhook import webhook_body


def callback_message(record: TaskRecord, ending: Ending) -> Message | None:
    """Return the message that tells of a task's end; None when nobody wants to be told.

    It is the same one whenever it is asked for: the id follows from the task.
    """
    url = record.callback_url
    if url is None:
        return None
    document = record.document(ending=ending)
    return Message(
        message_id(record.id, record.created_at, "result"),
        channel="webhook",
        lane=_origin(url),
        task=record.id,
        kind="result",
        destination=url,
        payload=webhook_body(ending.state, ending.at, document),
        created_at=ending.at,
    )


def _origin(url: str) -> str:
    try:
        return parse_callback_url(url).origin
    except CallbackUrlError:
        # Only in a database that somebody changed. It must not keep a task from its end.
        return "unknown"

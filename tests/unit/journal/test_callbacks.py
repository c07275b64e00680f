"""What a receiver is told of a task's end."""

from __future__ import annotations

import json

import pytest

from kagent_sdk.journal.callbacks import callback_message
from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.manifest import CapabilityManifest
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

DIGEST = CapabilityManifest(name="digest", input_schema={}, output_schema={})
URL = "https://Hooks.example.com/kos?key=1"
FAILURE = TaskFailure("quota", "no more")


def make_record(url: str | None = URL) -> TaskRecord:
    """Return a task that runs."""
    record = TaskRecord("t-1", DIGEST, b"{}", created_at=1_700_000_000.5)
    record.callback_url = url
    record.state = TaskState.WORKING
    return record


@pytest.mark.parametrize(
    "ending",
    [
        Ending(TaskState.COMPLETED, 1_700_000_001.0, b'{"n": 1.50}'),
        Ending(TaskState.FAILED, 1_700_000_001.0, None, FAILURE),
        Ending(TaskState.CANCELED, 1_700_000_001.0, None, FAILURE),
    ],
)
def test_the_message_holds_the_task_as_it_ended(ending: Ending) -> None:
    """The receiver needs no second request, and the record does not show its end yet."""
    record = make_record()
    message = callback_message(record, ending)
    assert message is not None
    body = json.loads(message.payload)

    assert body["type"] == f"task.{ending.state}"
    assert body["timestamp"] == "2023-11-14T22:13:21.000000Z"
    assert body["data"] == json.loads(record.document(ending=ending))
    assert body["data"]["state"] == ending.state
    assert (message.channel, message.kind, message.task) == ("webhook", "result", "t-1")
    assert (message.destination, message.lane) == (URL, "https://hooks.example.com:443")
    assert message.created_at == ending.at
    assert message == callback_message(record, ending)


def test_a_task_without_a_callback_has_no_message() -> None:
    """Nobody asked."""
    assert callback_message(make_record(None), Ending(TaskState.COMPLETED, 1.0, b"1")) is None


def test_a_broken_url_does_not_keep_a_task_from_its_end() -> None:
    """A database that somebody edited must not hold up tasks for ever."""
    message = callback_message(make_record("nonsense"), Ending(TaskState.COMPLETED, 1.0, b"1"))

    assert message is not None
    assert message.lane == "unknown"

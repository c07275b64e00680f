"""A fault of ours costs the connection it happened on, and not one more each time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kagent_sdk.link.nats import link as nats_link
from kagent_sdk.link.settings import LinkSettings


async def test_a_connection_on_which_a_fault_of_ours_happened_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host runs the link again: else a connection would be left open every few seconds."""
    ended: list[bool] = []

    class Session:
        bus = SimpleNamespace(listen=lambda _listener: None)
        was_up = True

        def __init__(self, *_: Any) -> None:
            pass

        async def run(self, *_: Any, **__: Any) -> None:
            raise KeyError("ours")

        async def end(self) -> None:
            ended.append(True)

    monkeypatch.setattr(nats_link, "_Session", Session)
    host: Any = SimpleNamespace()
    link = nats_link.NatsLink(LinkSettings("nats://127.0.0.1:4222"), host)
    with pytest.raises(KeyError):
        await link.run()

    assert ended == [True]
